"""What a response's head means, and the head that the client gets for it. Pure.

As with requests, it is written anew from what was understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus

from weldr.model.values import Limits
from weldr.proxy.fields import (
    CANONICAL_SECTION,
    PROTECTED,
    VIA_10,
    VIA_11,
    MalformedFieldError,
    canonical,
    connection_options,
    content_length,
    has_stray_control,
    splitter,
    without,
)

_LINE = rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*+))?"
"""Without a reason phrase also its space may be missing, as some servers have it."""
_CANONICAL_HEAD = re.compile(_LINE + CANONICAL_SECTION)
_STATUS_LINE = re.compile(_LINE)
_BEGINNING = b"HTTP/1."
_EMPTY_LINE = b"\r\n\r\n"
_BODILESS = frozenset((204, 304))
_MAX_REASON_BYTES = 64
_KEPT = re.compile(rb"(?:^|[ \t,;])timeout=([0-9]{1,6})(?![0-9])", re.IGNORECASE)


class ResponseInvalidError(Exception):
    """The backend sent what is no response. `error` is a type of RFC 9209."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


class ResponseHead:
    """A response that can be forwarded, an interim one (1xx) or a final one."""

    __slots__ = (
        "_connection",
        "_reason",
        "_section",
        "_trailer",
        "_upgrade",
        "_version_11",
        "chunked",
        "content_length",
        "has_date",
        "kept_s",
        "persistent",
        "status",
    )

    def __init__(self, status: int, reason: bytes, *, version_11: bool, section: bytes) -> None:
        """`section` is canonical.

        Raises `ResponseInvalidError`.
        """
        self.status = status
        self.chunked = False
        self.content_length: int | None = None
        self.has_date = False
        self.persistent = version_11
        """Whether the backend means to keep the connection."""
        self.kept_s: int | None = None
        """For how long, if it says so."""
        self._version_11 = version_11
        self._reason = reason
        self._connection: frozenset[bytes] | None = None
        self._upgrade: bytes | None = None
        self._trailer = b""
        parts = _SPLITTER.split(section)
        self._section = parts[0] if len(parts) == 1 else b"".join(parts[::3])
        for index in range(1, len(parts), 3):
            _SPECIAL[parts[index].lower()](self, parts[index + 1])
        if self.chunked and (self.content_length is not None or not version_11):
            raise ResponseInvalidError("http_protocol_error", "the response has two framings")
        if self._connection is not None:
            self._read_connection(self._connection)

    def has_body(self, request_method: bytes) -> bool:
        """Whether a body follows, be it an empty one (RFC 9112, section 6.3)."""
        return request_method != b"HEAD" and self.status >= 200 and self.status not in _BODILESS

    @property
    def switches(self) -> bool:
        """Whether it says that the connection now speaks another protocol."""
        return (
            self.status == 101
            and self._upgrade is not None
            and self._connection is not None
            and b"upgrade" in self._connection
        )

    def _read_connection(self, options: frozenset[bytes]) -> None:
        if b"close" in options:
            self.persistent = False
        elif b"keep-alive" in options:
            self.persistent = True
        named = options - _NOT_IN_SECTION
        if named:
            self._section = without(self._section, named)

    def interim(self) -> bytes:
        """The bytes of a 1xx response, including the 101 that begins a tunnel."""
        parts = [_status_line(self.status, self._reason), self._section]
        if self.switches:
            assert self._upgrade is not None
            parts.append(b"\r\nConnection: Upgrade\r\nUpgrade: " + self._upgrade)
        parts += (self._via, _EMPTY_LINE)
        return b"".join(parts)

    def final(self, framing: bytes, connection: bytes, date: bytes, *, trailer: bool = False) -> bytes:
        """The bytes of a final response, with these lines for the client's connection.

        `date` is used if the backend sent none (RFC 9110, section 6.6.1). `trailer` says that a trailer section
        is passed on, and so the names that the backend announced for it are, too.
        """
        via = VIA_11 if self._version_11 else VIA_10
        if self.has_date:
            date = b""
        if trailer:
            date += self._trailer
        line = _status_line(self.status, self._reason)
        return b"".join((line, self._section, framing, connection, date, via, _EMPTY_LINE))

    @property
    def _via(self) -> bytes:
        return VIA_11 if self._version_11 else VIA_10

    # What follows reads the fields; each of these is for one name of _SPECIAL.

    def _take_connection(self, value: bytes) -> None:
        options = connection_options(value)
        self._connection = options if self._connection is None else self._connection | options

    def _take_content_length(self, value: bytes) -> None:
        length = content_length(value, self.content_length)
        if length is None:
            raise ResponseInvalidError(
                "http_protocol_error", "Content-Length is no number, too large, or given twice"
            )
        self.content_length = length

    def _take_transfer_encoding(self, value: bytes) -> None:
        if self.chunked or value.lower() != b"chunked":
            raise ResponseInvalidError(
                "http_response_transfer_coding", "the transfer coding is not just chunked"
            )
        self.chunked = True

    def _take_upgrade(self, value: bytes) -> None:
        self._upgrade = value if self._upgrade is None else self._upgrade + b", " + value

    def _take_date(self, value: bytes) -> None:
        self.has_date = True
        self._section += b"\r\nDate: " + value

    def _take_trailer(self, value: bytes) -> None:
        self._trailer += b"\r\nTrailer: " + value

    def _take_keep_alive(self, value: bytes) -> None:
        found = _KEPT.search(value)
        if found is not None:
            self.kept_s = int(found[1])

    def _drop(self, value: bytes) -> None:
        pass


_SPECIAL: dict[bytes, Callable[[ResponseHead, bytes], None]] = {
    b"connection": ResponseHead._take_connection,
    b"content-length": ResponseHead._take_content_length,
    b"transfer-encoding": ResponseHead._take_transfer_encoding,
    b"upgrade": ResponseHead._take_upgrade,
    b"date": ResponseHead._take_date,
    b"trailer": ResponseHead._take_trailer,
    b"keep-alive": ResponseHead._take_keep_alive,
    b"proxy-connection": ResponseHead._drop,
    b"proxy-authenticate": ResponseHead._drop,
    b"te": ResponseHead._drop,
}

_SPLITTER = splitter(_SPECIAL)
_NOT_IN_SECTION = frozenset((b"close", b"keep-alive", b"upgrade")) | PROTECTED

_TRAILER_SPLITTER = splitter(
    (
        *_SPECIAL,
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"host",
        b"proxy-authorization",
        b"set-cookie",
        b"www-authenticate",
    )
)


def passable_trailer(section: bytes) -> bytes:
    """Of a canonical trailer section, what may be passed on.

    Nothing that frames, routes, authenticates or says how to process the content: RFC 9110, section 6.5.1.
    """
    return b"".join(_TRAILER_SPLITTER.split(section)[::3])


def read_head(data: bytes | bytearray, position: int, limits: Limits) -> tuple[ResponseHead, int] | None:
    """The head that begins at `position`, and the position after it; `None` if it is not complete yet.

    Raises `ResponseInvalidError`, as early as it is certain.
    """
    found = _CANONICAL_HEAD.match(data, position)
    if found is not None:
        minor, status, reason, section = found.groups()
        end = found.end()
        if end - position > limits.head_bytes:
            raise _too_large(limits)
    else:
        end = data.find(_EMPTY_LINE, position) + len(_EMPTY_LINE)
        if end < position + len(_EMPTY_LINE):
            check_incomplete(data, position, limits, position)
            return None
        if end - position > limits.head_bytes:
            raise _too_large(limits)
        head = bytes(data[position : end - len(_EMPTY_LINE)])
        line = _STATUS_LINE.match(head)
        if line is None or (line.end() != len(head) and not head.startswith(b"\r\n", line.end())):
            raise ResponseInvalidError("http_protocol_error", "the status line of the response is malformed")
        minor, status, reason = line.groups()
        try:
            section = canonical(head[line.end() :])
        except MalformedFieldError as error:
            raise ResponseInvalidError("http_protocol_error", f"in the head of the response, {error}") from None
    if section.count(b"\n") > limits.head_fields:
        raise _too_large(limits)
    return ResponseHead(int(status), reason or b"", version_11=minor == b"1", section=section), end


def check_incomplete(data: bytes | bytearray, position: int, limits: Limits, fresh: int) -> None:
    """Judge what there is of a head whose end has not come. What is before `fresh` was judged before.

    Raises `ResponseInvalidError`.
    """
    beginning = data[position : position + len(_BEGINNING)]
    if not _BEGINNING.startswith(beginning):
        raise ResponseInvalidError("http_protocol_error", "the response is not of HTTP/1")
    if len(data) - position > limits.head_bytes:
        raise _too_large(limits)
    if has_stray_control(data, fresh):
        raise ResponseInvalidError(
            "http_protocol_error", "the head of the response holds a stray control character"
        )


def _too_large(limits: Limits) -> ResponseInvalidError:
    return ResponseInvalidError(
        "http_response_header_section_size",
        f"the head of the response has more than {limits.head_bytes} bytes or {limits.head_fields} fields",
    )


@lru_cache(maxsize=256)
def _remembered_status_line(status: int, reason: bytes) -> bytes:
    if not reason.isascii() or not reason.decode("ascii").isprintable():
        reason = standard_reason(status)
    return b"HTTP/1.1 %d %b" % (status, reason)


def _status_line(status: int, reason: bytes) -> bytes:
    if len(reason) > _MAX_REASON_BYTES:
        reason = standard_reason(status)
    return _remembered_status_line(status, reason)


def standard_reason(status: int) -> bytes:
    """The usual reason phrase of a status; empty for one that has none."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""
