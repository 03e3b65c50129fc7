"""What the field section of a response means. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from weldr.proxy.fields import (
    PROTECTED,
    VIA_10,
    VIA_11,
    MalformedFieldError,
    canonical,
    connection_options,
    content_length,
    splitter,
    without,
)

_KEPT = re.compile(rb"(?:^|[ \t,;])timeout=([0-9]{1,6})(?![0-9])", re.IGNORECASE)


class ResponseInvalidError(Exception):
    """The backend sent what is no response. `error` is a type of RFC 9209."""

    def __init__(self, error: str, reason: str) -> None:
        super().__init__(reason)
        self.error = error
        self.reason = reason


class ResponseFields:
    """A section that can be forwarded. Shared between responses: nobody changes it."""

    __slots__ = (
        "_rest",
        "_version_11",
        "chunked",
        "connection",
        "content_length",
        "count",
        "has_date",
        "kept_s",
        "lines",
        "persistent",
        "trailer",
        "upgrade",
    )

    def __init__(self, section: bytes, *, version_11: bool) -> None:
        """`section` is what stands between the status line and the empty line, with the CRLF before each line.

        Raises `ResponseInvalidError`.
        """
        try:
            section = canonical(section)
        except MalformedFieldError as error:
            raise ResponseInvalidError("http_protocol_error", f"in the head of the response, {error}") from None
        self.count = section.count(b"\n")
        self.chunked = False
        self.content_length: int | None = None
        self.has_date = False
        self.persistent = version_11
        """Whether the backend means to keep the connection."""
        self.kept_s: int | None = None
        """For how long, if it says so."""
        self.upgrade: bytes | None = None
        """The protocol that it changes to, if it says so in both of the fields that this takes."""
        self.trailer = b""
        """The lines that announce a trailer section, for a client that gets one."""
        self._version_11 = version_11
        self.connection: frozenset[bytes] = frozenset()
        """The options of `Connection`: what they name is meant for weldr alone, also in a trailer section."""
        parts = _SPLITTER.split(section)
        self._rest = parts[0] if len(parts) == 1 else b"".join(parts[::3])
        for index in range(1, len(parts), 3):
            _SPECIAL[parts[index].lower()](self, parts[index + 1])
        if self.chunked and (self.content_length is not None or not version_11):
            raise ResponseInvalidError("http_protocol_error", "the response has two framings")
        self._read_connection()
        self.lines = self._rest + (VIA_11 if version_11 else VIA_10)
        """What is forwarded of the section, with weldr's own `Via`."""

    def _read_connection(self) -> None:
        options = self.connection
        if b"close" in options:
            self.persistent = False
        elif b"keep-alive" in options:
            self.persistent = True
        if b"upgrade" not in options:
            self.upgrade = None
        named = options - _NOT_IN_SECTION
        if named:
            self._rest = without(self._rest, named)

    # What follows reads the fields; each of these is for one name of _SPECIAL.

    def _take_connection(self, value: bytes) -> None:
        self.connection |= connection_options(value)

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
        self.upgrade = value if self.upgrade is None else self.upgrade + b", " + value

    def _take_date(self, value: bytes) -> None:
        self.has_date = True
        self._rest += b"\r\nDate: " + value

    def _take_trailer(self, value: bytes) -> None:
        self.trailer += b"\r\nTrailer: " + value

    def _take_keep_alive(self, value: bytes) -> None:
        found = _KEPT.search(value)
        if found is not None:
            self.kept_s = int(found[1])

    def _drop(self, value: bytes) -> None:
        pass


_SPECIAL: dict[bytes, Callable[[ResponseFields, bytes], None]] = {
    b"connection": ResponseFields._take_connection,
    b"content-length": ResponseFields._take_content_length,
    b"transfer-encoding": ResponseFields._take_transfer_encoding,
    b"upgrade": ResponseFields._take_upgrade,
    b"date": ResponseFields._take_date,
    b"trailer": ResponseFields._take_trailer,
    b"keep-alive": ResponseFields._take_keep_alive,
    b"proxy-connection": ResponseFields._drop,
    b"proxy-authenticate": ResponseFields._drop,
    b"te": ResponseFields._drop,
}

_SPLITTER = splitter(_SPECIAL)
_NOT_IN_SECTION = frozenset((b"close", b"keep-alive", b"upgrade")) | PROTECTED


_TRAILER_SPLITTER = splitter(
    (
        *_SPECIAL,
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"expires",
        b"host",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"max-forwards",
        b"pragma",
        b"proxy-authorization",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"warning",
        b"www-authenticate",
    )
)


def passable_trailer(section: bytes, connection: frozenset[bytes]) -> bytes:
    """Of a canonical trailer section, what may be passed on.

    Nothing that frames, routes, authenticates, modifies a request or says how to process the content (RFC 9110,
    section 6.5.1), nor what is among the options of `connection` (section 7.6.1).
    """
    rest = b"".join(_TRAILER_SPLITTER.split(section)[::3])
    return without(rest, connection) if connection else rest
