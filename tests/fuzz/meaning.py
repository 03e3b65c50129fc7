"""What a proxy has to leave as it was in a message, and what is its own to decide (RFC 9110, section 7.6)."""

from __future__ import annotations

import re

from tests.fuzz.grammar import is_authority
from tests.fuzz.reading import Fields, Message, Request

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
_OF_THE_CLIENT = frozenset(
    (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-request-id",
    )
)
"""Names by which weldr tells a backend of the client; nothing of the client's own may be taken for them."""

_REWRITTEN = frozenset(
    (b"host", b"content-length", b"max-forwards", b"expect", b"via", b"date", b"proxy-status")
)
_BEYOND_CONNECTION = frozenset((b"via", b"date"))
"""What naming in `Connection` does not remove: it would not be a hop-by-hop field of anybody."""

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)


def end_to_end(message: Message, named: set[bytes] | None = None) -> Fields:
    """The fields that have to arrive as they are, without those `named` in `Connection` at their origin."""
    dropped = HOP_BY_HOP | _OF_THE_CLIENT | _REWRITTEN
    if named:
        dropped |= named - _BEYOND_CONNECTION
    return [(name, value) for name, value in message.fields if name not in dropped and not _is_look_alike(name)]


def _is_look_alike(name: bytes) -> bool:
    """Whether CGI and its kin would take it for one of the fields that weldr vouches for."""
    return b"_" in name and name.replace(b"_", b"-") in _OF_THE_CLIENT


def destination(request: Request) -> tuple[bytes, bytes] | None:
    """Host and origin-form target that the request means; `None` if it means none."""
    hosts = request.values(b"host")
    if len(hosts) > 1:
        return None
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute is None:
        return (hosts or [b""])[0], request.target
    host, path = absolute.groups()
    if not path and request.method == b"OPTIONS":
        return host, b"*"
    return host, path if path.startswith(b"/") else b"/" + path


def is_subsequence(part: Fields, whole: Fields) -> bool:
    """Whether all of `part` is in `whole`, in the same order."""
    rest = iter(whole)
    return all(each in rest for each in part)


_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_MOST_HEAD_BYTES = 4000


_LENGTH_LIST = re.compile(rb"\r\ncontent-length:[^\r]*,", re.IGNORECASE)
"""May be read as one number where all are the same, and may be refused (RFC 9112, section 6.3)."""


def is_good(request: Request) -> bool:
    """Whether there is nothing in a request that anybody might refuse."""
    return (
        request.complete
        and request.strict
        and request.usual
        and request.method in _METHODS
        and request.target.startswith(b"/")
        and b"#" not in request.target
        and len(request.values(b"host")) == 1
        and is_authority(request.values(b"host")[0])
        and len(request.head) < _MOST_HEAD_BYTES
        and not request.values(b"max-forwards")
        and not request.values(b"expect")
        and not request.trailers
        and request.head.lower().count(b"content-length") <= 1
        and b"content_length" not in request.head.lower()
        and b"transfer_encoding" not in request.head.lower()
        and not _LENGTH_LIST.search(request.head)
    )
