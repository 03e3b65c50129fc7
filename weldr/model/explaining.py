"""What is asked of `python -m weldr.proxy.explain`, and what it answers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from weldr.model.health import BackendKey, Standing
from weldr.model.traffic import Traffic, TrafficDelta, difference

_METHOD = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$"
_NO_TEXT = re.compile(r"[\x00-\x20\x7f]")

Line = Annotated[str, msgspec.Meta(max_length=8192)]


class QuestionError(Exception):
    """A request that nobody could send; one line that says what to do."""


class AskedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request that somebody might send."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
    """`http://host/path`; without a scheme it is taken for one of http."""
    method: Annotated[str, msgspec.Meta(pattern=_METHOD)] = "GET"
    headers: Annotated[list[Line], msgspec.Meta(max_length=100)] = []
    """Each `Name: value`."""
    client: Annotated[str, msgspec.Meta(max_length=64)] = "127.0.0.1"
    """The address that it comes from."""


class Question(msgspec.Struct, frozen=True):
    """A request to a worker that has this traffic and these standings of backends."""

    delta: TrafficDelta
    standings: list[tuple[BackendKey, Standing]]
    request: bytes
    """Its head, as it is sent."""
    client: str
    """The address that it comes from."""


def question_of(
    asked: AskedRequest, traffic: Traffic, standings: Iterable[tuple[BackendKey, Standing]]
) -> Question:
    """What becomes of this request at a worker that has this traffic.

    Raises `QuestionError`.
    """
    return Question(difference(Traffic(), traffic), list(standings), head_of(asked), asked.client)


def head_of(asked: AskedRequest) -> bytes:
    """The request's head, as it is sent.

    Raises `QuestionError`.
    """
    try:
        ipaddress.ip_address(asked.client)
    except ValueError:
        raise QuestionError(
            f"the client {asked.client!r} is no IP address: expected 10.0.0.7 or 2001:db8::7"
        ) from None
    try:
        parts = urlsplit(asked.url if "://" in asked.url else f"http://{asked.url}")
        host = parts.netloc.rpartition("@")[2]
    except ValueError as error:
        raise QuestionError(f"{asked.url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or _NO_TEXT.search(asked.url):
        raise QuestionError(f"{asked.url!r} is no URL: expected http://host/path, without spaces")
    if not re.fullmatch(_METHOD, asked.method):
        raise QuestionError(f"{asked.method!r} is no method: expected one as GET")
    for field in asked.headers:
        if "\r" in field or "\n" in field or ":" not in field:
            raise QuestionError(f"{field!r} is no field: expected `Name: value` on one line")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{asked.method} {target} HTTP/1.1"]
    if not any(field.lower().startswith("host:") for field in asked.headers):
        lines.append(f"Host: {host}")
    # What a shell gives is bytes, which need not be text.
    return "\r\n".join([*lines, *asked.headers, "", ""]).encode("utf-8", "surrogateescape")


class ExplainedRoute(msgspec.Struct, frozen=True):
    """A route, and what decided about it."""

    name: str
    wins: bool
    reason: str


class Explanation(msgspec.Struct, frozen=True):
    """What a worker would do with a request."""

    status: int | None = None
    """Of an answer of weldr's own, if it would go no further."""
    reason: str = ""
    routes: list[ExplainedRoute] = []
    """The one that takes it first, then the others."""
    order: list[str] = []
    """All routes, in the order in which they are tried."""
    service: str | None = None
    backends: list[str] = []
    """By id, in the order in which they would be tried. Where it begins differs by worker and request."""
    unused: list[str] = []
    """The other backends of the service, which would get nothing."""
    why_none: str = ""
    """Why no backend would be tried."""
