"""What a response's head means, and the head that the client gets for it. Pure.

As with requests, it is written anew from what was understood.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus

from weldr.proxy.fields import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    PROTECTED,
    VIA_10,
    VIA_11,
    connection_options,
    without,
)

_BODILESS = frozenset((204, 304))
_MAX_REASON_BYTES = 64


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
        "_lines",
        "_reason",
        "_upgrade",
        "_version_11",
        "chunked",
        "content_length",
        "has_date",
        "persistent",
        "status",
    )

    def __init__(self, status: int, reason: bytes, version: str) -> None:
        """Raises `ResponseInvalidError`."""
        if version not in ("1.1", "1.0") or status < 100:
            raise ResponseInvalidError(
                "http_protocol_error", f"the response has status {status} and version {version}"
            )
        self.status = status
        self.chunked = False
        self.content_length: int | None = None
        self.has_date = False
        self._version_11 = version == "1.1"
        self.persistent = self._version_11
        """Whether the backend means to keep the connection."""
        self._reason = reason
        self._connection: frozenset[bytes] = frozenset()
        self._upgrade: bytes | None = None
        self._lines: list[bytes] = []

    def has_body(self, request_method: bytes) -> bool:
        """Whether a body follows, be it an empty one (RFC 9112, section 6.3)."""
        return request_method != b"HEAD" and self.status >= 200 and self.status not in _BODILESS

    @property
    def switches(self) -> bool:
        """Whether it says that the connection now speaks another protocol."""
        return self.status == 101 and self._upgrade is not None and b"upgrade" in self._connection

    def read(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Take over the fields.

        Raises `ResponseInvalidError`.
        """
        lines = self._lines
        size = 0
        for name, value in fields:
            size += len(value)
            special = _SPECIAL.get(name.lower())
            if special is None:
                lines.append(name + b": " + value)
            else:
                special(self, value)
        if len(fields) > MAX_FIELDS or size > MAX_HEAD_BYTES:
            raise ResponseInvalidError(
                "http_response_header_section_size", "the head of the response is too large"
            )
        if self.chunked and (self.content_length is not None or not self._version_11):
            raise ResponseInvalidError("http_protocol_error", "the response has two framings")
        if self._connection:
            self._read_connection()

    def _read_connection(self) -> None:
        options = self._connection
        if b"close" in options:
            self.persistent = False
        elif b"keep-alive" in options:
            self.persistent = True
        named = options - _USUAL_OPTIONS - PROTECTED
        if named:
            self._lines = without(self._lines, named)

    def interim(self) -> bytes:
        """The bytes of a 1xx response, including the 101 that begins a tunnel."""
        lines = [_status_line(self.status, self._reason), *self._lines]
        if self.switches:
            assert self._upgrade is not None
            lines.append(b"Connection: Upgrade\r\nUpgrade: " + self._upgrade)
        lines.append(self._via)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    def final(self, framing: bytes | None, connection: bytes | None, date: bytes) -> bytes:
        """The bytes of a final response, with these field lines for the client's connection.

        `date` is used if the backend sent none (RFC 9110, section 6.6.1).
        """
        lines = [_status_line(self.status, self._reason), *self._lines]
        if framing is not None:
            lines.append(framing)
        if connection is not None:
            lines.append(connection)
        if not self.has_date:
            lines.append(date)
        lines.append(self._via)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    @property
    def _via(self) -> bytes:
        return VIA_11 if self._version_11 else VIA_10

    # What follows reads the fields; each of these is for one name of _SPECIAL.

    def _take_connection(self, value: bytes) -> None:
        self._connection |= connection_options(value)

    def _take_content_length(self, value: bytes) -> None:
        digits = value.strip(b" \t")
        if self.content_length is not None or not digits.isdigit():
            raise ResponseInvalidError("http_protocol_error", "Content-Length is repeated or is no number")
        self.content_length = int(digits)

    def _take_transfer_encoding(self, value: bytes) -> None:
        if self.chunked or value.strip(b" \t").lower() != b"chunked":
            raise ResponseInvalidError(
                "http_response_transfer_coding", "the transfer coding is not just chunked"
            )
        self.chunked = True

    def _take_upgrade(self, value: bytes) -> None:
        self._upgrade = value if self._upgrade is None else self._upgrade + b", " + value

    def _take_date(self, value: bytes) -> None:
        self.has_date = True
        self._lines.append(b"Date: " + value)

    def _drop(self, value: bytes) -> None:
        pass


_USUAL_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))

_SPECIAL: dict[bytes, Callable[[ResponseHead, bytes], None]] = {
    b"connection": ResponseHead._take_connection,
    b"content-length": ResponseHead._take_content_length,
    b"transfer-encoding": ResponseHead._take_transfer_encoding,
    b"upgrade": ResponseHead._take_upgrade,
    b"date": ResponseHead._take_date,
    b"keep-alive": ResponseHead._drop,
    b"proxy-connection": ResponseHead._drop,
    b"proxy-authenticate": ResponseHead._drop,
    b"te": ResponseHead._drop,
    b"trailer": ResponseHead._drop,
}


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
