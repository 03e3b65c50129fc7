"""The collections: reading, writing and removing their keys."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from weldr.control.admin.conditions import Conditions, tag
from weldr.control.admin.endpoint import DRY_RUN, REVISION, Call, Endpoint, Parameter
from weldr.control.admin.items import AllItems, Items, Written, encoded, value_for, written
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.tokens import Role
from weldr.control.admin.writes import Writes, checked
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdCompactedError, EtcdFutureRevisionError
from weldr.model.collections import COLLECTIONS, Collection, path_of
from weldr.model.documents import DocumentError, parse_json, patched, raw_of_body, shown
from weldr.model.edits import Edit, Held
from weldr.model.events import KeyValue
from weldr.model.keys import KeyLayoutError, KeyName, Kind

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
MOST_TTL_S = 3600

TTL = Parameter(
    "ttl",
    "Register: the key lives for so many seconds, and again for as long by the same request.",
    {"type": "integer", "minimum": 1, "maximum": MOST_TTL_S},
)
LIMIT = Parameter(
    "limit",
    "Of each collection at most so many, the first by name.",
    {"type": "integer", "minimum": 1, "maximum": 1_000_000},
)
IF_MATCH = Parameter("If-Match", "Only if the key has one of these ETags.", {"type": "string"}, "header")
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "Only if the key has none of these ETags; with * only if there is none.",
    {"type": "string"},
    "header",
)

_PREFIX = "/api/v1"


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer of JSON."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=JSON, headers=headers)


class KeyEndpoints:
    """Handles the requests on keys."""

    def __init__(self, client: EtcdClient, mirror: Mirror, writes: Writes) -> None:
        self._client = client
        self._mirror = mirror
        self._writes = writes
        self._keys = mirror.keys

    def endpoints(self) -> list[Endpoint]:
        """All of them, for every collection."""
        found = [
            Endpoint(
                "GET",
                f"{_PREFIX}/keys",
                "keys",
                "Every key, at one revision",
                self._all,
                {200: AllItems},
                (REVISION, LIMIT),
            )
        ]
        for collection in COLLECTIONS.values():
            found += self._lists(collection)
            found += self._single(collection)
        return found

    def _lists(self, collection: Collection) -> list[Endpoint]:
        found = []
        path = f"{_PREFIX}/{collection.name}"
        for depth in range(len(collection.parts)):
            summary = f"The {collection.name}" + "".join(f" of one {part}" for part in collection.parts[:depth])
            name = "_".join([collection.name, "list", *collection.parts[:depth]])
            found.append(self._list_endpoint(path, name, summary, self._lister(collection)))
            path += f"/{{{collection.parts[depth]}}}"
        return found

    @staticmethod
    def _list_endpoint(path: str, name: str, summary: str, handler: Callable[[Call], Any]) -> Endpoint:
        return Endpoint("GET", path, name, summary, handler, {200: Items}, (REVISION,))

    def _single(self, collection: Collection) -> list[Endpoint]:
        path = "/".join([_PREFIX, collection.name, *(f"{{{part}}}" for part in collection.parts)])
        name, kind = collection.name, collection.kind
        value = value_schema(collection)
        read = Endpoint(
            "GET",
            path,
            f"{name}_get",
            f"One of {name}",
            lambda call: self._get(call, kind),
            # What is stored need not be what may be written: others write, too.
            {200: {}, 304: None},
            (REVISION, IF_NONE_MATCH),
            answers_etag=True,
        )
        if not collection.writable:
            return [read]
        conditions = (DRY_RUN, IF_MATCH, IF_NONE_MATCH)
        put = Endpoint(
            "PUT",
            path,
            f"{name}_put",
            f"Write one of {name}",
            lambda call: self._put(call, kind),
            {200: Written, 201: Written},
            (*conditions, TTL) if kind is Kind.BACKEND else conditions,
            body=value,
            role=Role.WRITE,
            answers_etag=True,
        )
        patch = Endpoint(
            "PATCH",
            path,
            f"{name}_patch",
            f"Change one of {name} by a JSON merge patch (RFC 7396)",
            lambda call: self._patch(call, kind),
            {200: Written},
            conditions,
            body={"type": "object"},
            body_types=(MERGE_PATCH, JSON),
            role=Role.WRITE,
            answers_etag=True,
        )
        remove = Endpoint(
            "DELETE",
            path,
            f"{name}_delete",
            f"Remove one of {name}",
            lambda call: self._delete(call, kind),
            {200: Written},
            conditions,
            role=Role.WRITE,
        )
        return [read, put, patch, remove]

    # --- reading

    async def _all(self, call: Call) -> web.Response:
        revision, limit = call.number(REVISION.name), call.number(LIMIT.name)
        problems = self._mirror.problems
        if revision is None:
            self._need_mirror()
            revision = self._mirror.revision
            found = {kind: self._mirror.of_kind(kind) for kind in Kind}
        else:
            problems, found = {}, {kind: [] for kind in Kind}
            for pair in await self._past(self._keys.prefix_bytes, revision):
                found[self._keys.parse(pair.key).kind].append(pair)
        some = [pair for pairs in found.values() for pair in pairs[:limit]]
        left_out = {
            kind.value: len(pairs) - limit for kind, pairs in found.items() if limit and len(pairs) > limit
        }
        body = await encoded(self._keys, revision, some, problems, left_out)
        return web.Response(body=body, content_type=JSON)

    def _lister(self, collection: Collection) -> Callable[[Call], Any]:
        async def handler(call: Call) -> web.Response:
            names, kind = call.names, collection.kind
            prefix = self._keys.of_kind(kind, *names)
            return await self._items(call, lambda: self._mirror.of_kind(kind, *names), prefix)

        return handler

    async def _items(self, call: Call, now: Callable[[], list[KeyValue]], prefix: bytes) -> web.Response:
        revision = call.number(REVISION.name)
        if revision is None:
            self._need_mirror()
            body = await encoded(self._keys, self._mirror.revision, now(), self._mirror.problems)
        else:
            pairs = await self._past(prefix, revision)
            body = await encoded(self._keys, revision, pairs, {})
        return web.Response(body=body, content_type=JSON)

    async def _past(self, prefix: bytes, revision: int) -> list[KeyValue]:
        with _past_problems(revision):
            read = await self._client.read_prefix(prefix, revision=revision)
        return [pair for pair in read.key_values if self._is_known(pair)]

    def _is_known(self, pair: KeyValue) -> bool:
        try:
            self._keys.parse(pair.key)
        except KeyLayoutError:
            return False
        return True

    async def _get(self, call: Call, kind: Kind) -> web.Response:
        name = KeyName(kind, call.names)
        conditions = Conditions.of(None, call.header(IF_NONE_MATCH.name))
        revision = call.number(REVISION.name)
        if revision is None:
            self._need_mirror()
            pair = self._mirror.pair(name)
        else:
            with _past_problems(revision):
                found = await self._client.range(self._keys.key(kind, *name.names), revision=revision)
            pair = found.key_values[0] if found.key_values else None
        if pair is None:
            raise _missing(name)
        headers = {"ETag": tag(pair.mod_revision)}
        if conditions.unchanged(pair.mod_revision):
            return web.Response(status=304, headers=headers)
        return json_answer(shown(COLLECTIONS[kind.value], pair.value), headers=headers)

    def _need_mirror(self) -> None:
        if not self._mirror.revision:
            detail = "no keys could be read from etcd yet: try again in a moment"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})

    # --- writing

    async def _put(self, call: Call, kind: Kind) -> web.Response:
        name = KeyName(kind, call.names)
        conditions = self._conditions(call)
        ttl_s = call.number(TTL.name) if kind is Kind.BACKEND else None
        dry_run = call.flag(DRY_RUN.name)
        raw = checked(name, raw_of_body(await call.body()))
        if ttl_s is not None and not dry_run:
            committed, granted_s = await self._writes.register(
                name, raw, ttl_s, call.caller, lambda revision: conditions.check(revision, path_of(name))
            )
            return self._answer(msgspec.structs.replace(written(committed), ttl_s=granted_s))

        def decide(held: Held | None) -> bytes:
            return raw

        return await self._write(call, name, conditions, decide)

    async def _patch(self, call: Call, kind: Kind) -> web.Response:
        name = KeyName(kind, call.names)
        conditions = self._conditions(call)
        try:
            patch = parse_json(await call.body())
        except DocumentError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"the patch is no JSON, at {error}") from None
        if not isinstance(patch, dict):
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "a patch is an object of the members to change")

        def decide(held: Held | None) -> bytes:
            if held is None:
                raise _missing(name)
            return checked(name, patched(COLLECTIONS[kind.value], held.value, patch))

        return await self._write(call, name, conditions, decide)

    async def _delete(self, call: Call, kind: Kind) -> web.Response:
        name = KeyName(kind, call.names)

        def decide(held: Held | None) -> None:
            if held is None:
                raise _missing(name)

        return await self._write(call, name, self._conditions(call), decide)

    async def _write(
        self, call: Call, name: KeyName, conditions: Conditions, decide: Callable[[Held | None], bytes | None]
    ) -> web.Response:
        dry_run = call.flag(DRY_RUN.name)
        before: Held | None = None
        after: bytes | None = None

        def edits(held: Mapping[KeyName, Held]) -> list[Edit]:
            nonlocal before, after
            before = held.get(name)
            conditions.check(before.mod_revision if before else 0, path_of(name))
            after = decide(before)
            return [Edit(name, after)]

        committed = await self._writes.commit([name], edits, call.caller, dry_run=dry_run)
        answer = written(committed, dry_run=dry_run)
        if dry_run:
            old = value_for(name, before.value if before else None)
            answer = msgspec.structs.replace(answer, before=old, after=value_for(name, after))
        return self._answer(answer)

    @staticmethod
    def _conditions(call: Call) -> Conditions:
        return Conditions.of(call.header(IF_MATCH.name), call.header(IF_NONE_MATCH.name))

    @staticmethod
    def _answer(answer: Written) -> web.Response:
        found = answer.outcomes[0]
        created = found.action == "create" and not answer.dry_run
        headers = {"ETag": tag(found.new_revision)} if found.new_revision else {}
        return json_answer(answer, 201 if created else 200, headers)


@contextlib.contextmanager
def _past_problems(revision: int) -> Iterator[None]:
    """Turns etcd's word on a revision that it does not have into a problem."""
    try:
        yield
    except EtcdCompactedError:
        detail = f"etcd has compacted revision {revision}: its keys are not known any more"
        raise ProblemError(HTTPStatus.GONE, detail) from None
    except EtcdFutureRevisionError:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no revision {revision} yet") from None


def _missing(name: KeyName) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, f"there is no {path_of(name)}")


def value_schema(collection: Collection) -> Any:
    """What a value of a collection may be: a type, or a JSON Schema with types in it."""
    if collection.takes_text:
        # An object may also have the shape that another program writes, which only the decoder can tell.
        return {"anyOf": [{"type": "string", "minLength": 1}, collection.value_type, {"type": "object"}]}
    return collection.value_type
