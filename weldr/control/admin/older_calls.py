"""The calls of the earlier weldr (hjr3/weldr), for scripts that have them: one pool, the service `default`."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.tokens import Role
from weldr.control.admin.writes import Writes, checked
from weldr.model.decode import decode
from weldr.model.documents import DocumentError, parse_json
from weldr.model.edits import MAX_OPERATIONS, Edit, Held
from weldr.model.keys import KeyName, Kind
from weldr.model.traffic import DEFAULT_SERVICE
from weldr.model.values import Backend


class Server(msgspec.Struct, frozen=True):
    """A backend of the pool. Other members are ignored, as they were."""

    url: str


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to go from an answer."""

    rel: str
    href: str
    method: str | None = None


class LinkedServer(msgspec.Struct, frozen=True):
    """A backend of the pool, and how to remove it."""

    url: str
    links: list[Link]


class Servers(msgspec.Struct, frozen=True):
    """The pool."""

    servers: list[LinkedServer]
    links: tuple[Link, ...] = (Link("add", "/servers", "POST"),)


class OlderCalls:
    """Handles them."""

    def __init__(self, mirror: Mirror, writes: Writes) -> None:
        self._mirror = mirror
        self._writes = writes

    def endpoints(self) -> list[Endpoint]:
        """All of them."""
        return [
            Endpoint("GET", "/servers", "servers_list", "The pool", self._list, {200: Servers}),
            Endpoint(
                "POST",
                "/servers",
                "servers_add",
                "Add a backend to the service `default`",
                self._add,
                {200: Servers},
                body=Server,
                role=Role.WRITE,
            ),
            Endpoint(
                "DELETE",
                "/servers/{ip}/{port}",
                "servers_remove",
                "Remove a backend of the service `default`",
                self._remove,
                {200: Servers},
                role=Role.WRITE,
            ),
        ]

    async def _list(self, call: Call) -> web.Response:
        return json_answer(Servers([_linked(backend) for backend in self._pool().values()]))

    def _pool(self) -> Mapping[KeyName, Backend]:
        found = {}
        for pair in self._mirror.of_kind(Kind.BACKEND, DEFAULT_SERVICE):
            backend = decode(Kind.BACKEND, pair.value)
            if isinstance(backend, Backend):
                found[self._mirror.keys.parse(pair.key)] = backend
        return found

    async def _add(self, call: Call) -> web.Response:
        try:
            server = msgspec.convert(parse_json(await call.body()), Server)
        except DocumentError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body is no JSON, at {error}") from None
        except msgspec.ValidationError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"the body is no server: {error}") from None
        raw = server.url.encode("utf-8", "surrogatepass")
        # Checked under a name of no consequence: the real one follows from the address.
        checked(KeyName(Kind.BACKEND, (DEFAULT_SERVICE, "new")), raw)
        backend = decode(Kind.BACKEND, raw)
        assert isinstance(backend, Backend)
        name = KeyName(Kind.BACKEND, (DEFAULT_SERVICE, backend.authority))

        def decide(held: Mapping[KeyName, Held]) -> list[Edit]:
            return [Edit(name, raw)]

        await self._writes.commit([name], decide, call.caller)
        return await self._list(call)

    async def _remove(self, call: Call) -> web.Response:
        host, port = call.names
        host = host.strip("[]").lower()
        names = [
            name for name, found in self._pool().items() if found.host == host and str(found.port) == port
        ][:MAX_OPERATIONS]
        if not names:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no server {host} with port {port}")

        def decide(held: Mapping[KeyName, Held]) -> list[Edit]:
            return [Edit(name, None) for name in names]

        await self._writes.commit(names, decide, call.caller)
        return await self._list(call)


def _linked(backend: Backend) -> LinkedServer:
    remove = Link("delete", f"/servers/{backend.host}/{backend.port}", "DELETE")
    return LinkedServer(f"http://{backend.authority}", [remove])
