"""An endpoint of the API: the one description that both the server and `/openapi.json` are made from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from weldr.control.admin.guard import Caller
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.tokens import Role
from weldr.model.keys import name_from_bytes

_BODY_LIMIT_S = 10.0
_NO_URI = re.compile("#|%(?![0-9A-Fa-f]{2})")
_TRUE, _FALSE = ("1", "true"), ("0", "false")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header field that an endpoint takes."""

    name: str
    description: str
    schema: Mapping[str, Any]
    place: str = "query"
    required: bool = False


DRY_RUN = Parameter(
    "dry_run", "Tell what would change, and change nothing.", {"enum": [*_TRUE, *_FALSE], "type": "string"}
)
REVISION = Parameter(
    "revision",
    "As it was at this revision, unless etcd has compacted it.",
    {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
)


class Call:
    """A request to an endpoint, its parameters read."""

    def __init__(self, request: web.Request, endpoint: Endpoint, caller: Caller) -> None:
        """Raises `ProblemError` for a target that is no URI, and for a parameter that is not taken."""
        if _NO_URI.search(request.raw_path):
            # What is read leniently names another key than was meant, and writes it.
            detail = (
                "the target holds # or a % without two hexadecimal digits: percent-encode them, %23 and %25"
            )
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
        self.request = request
        self.endpoint = endpoint
        self.caller = caller
        self._query = self._checked_query()

    def _checked_query(self) -> dict[str, str]:
        taken = [parameter.name for parameter in self.endpoint.parameters if parameter.place == "query"]
        query: dict[str, str] = {}
        for name, value in self.request.rel_url.query.items():
            if name not in taken:
                expected = f"expected {', '.join(taken)}" if taken else "there are none here"
                raise ProblemError(HTTPStatus.BAD_REQUEST, f"the parameter {name!r} is not known: {expected}")
            if name in query:
                raise ProblemError(HTTPStatus.BAD_REQUEST, f"the parameter {name!r} is given twice")
            query[name] = value
        return query

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the path, as keys have them.

        Raises `ProblemError` for one that no key can have.
        """
        segments = self.request.rel_url.raw_path.split("/")
        places = [place for place, text in enumerate(self.endpoint.path.split("/")) if text.startswith("{")]
        names = [unquote_to_bytes(segments[place]) for place in places]
        if any(not name or b"/" in name for name in names):
            raise ProblemError(HTTPStatus.BAD_REQUEST, "a name in the path is empty or holds a slash")
        return tuple(map(name_from_bytes, names))

    def header(self, name: str) -> str | None:
        """A header field.

        Raises `ProblemError` if it comes twice.
        """
        values = self.request.headers.getall(name, [])
        if len(values) > 1:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"the field {name} is given twice")
        return values[0] if values else None

    def flag(self, name: str) -> bool:
        """A parameter that is on or off.

        Raises `ProblemError`.
        """
        value = self._query.get(name)
        if value is not None and value not in (*_TRUE, *_FALSE):
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"{name} is {value!r}: expected 1 or 0")
        return value in _TRUE

    def text(self, name: str) -> str | None:
        """A parameter that is text."""
        return self._query.get(name)

    def number(self, name: str) -> int | None:
        """A parameter that is a whole number within its schema.

        Raises `ProblemError`.
        """
        value = self._query.get(name)
        if value is None:
            return None
        schema = next(found.schema for found in self.endpoint.parameters if found.name == name)
        least, most = schema["minimum"], schema["maximum"]
        if not re.fullmatch(r"[0-9]{1,19}", value) or not least <= int(value) <= most:
            detail = f"{name} is {value[:40]!r}: expected a whole number from {least} to {most}"
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
        return int(value)

    async def body(self) -> bytes:
        """All of the body.

        Raises `ProblemError` if it does not come in time, or cannot be read.
        """
        try:
            async with asyncio.timeout(_BODY_LIMIT_S):
                return await self.request.read()
        except (web.RequestPayloadError, ConnectionResetError):
            detail = "the body cannot be read: it is cut off, or not coded as the request says"
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail, headers={"Connection": "close"}) from None
        except TimeoutError:
            detail = f"the body did not come within {_BODY_LIMIT_S:.0f} s"
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail, headers={"Connection": "close"}) from None


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method on a path. A schema is a type, or a JSON Schema with types in it."""

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    answers: Mapping[int, Any]
    """By status; `None` for one without a body of JSON."""
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_types: tuple[str, ...] = ("application/json",)
    answer_type: str = "application/json"
    role: Role = Role.READ
    answers_etag: bool = False
