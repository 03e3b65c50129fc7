"""What the field section of a request means. Pure.

A section's meaning depends on nothing but its bytes and the HTTP version, and a client that keeps a connection,
or many alike, send the same section again and again. So the latest meanings are remembered, by the whole
section: nothing is ever guessed from a part of it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product

from weldr.proxy.fields import (
    MAX_REMEMBERED_SECTION_BYTES,
    PROTECTED,
    REMEMBERED_SECTIONS,
    TOKEN,
    VIA_10,
    VIA_11,
    MalformedFieldError,
    canonical,
    connection_options,
    content_length,
    splitter,
    without,
)
from weldr.proxy.forwarding import ForwardedFields

_HOST = re.compile(rb"((?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})++|\[[0-9A-Fa-f:.]++\])(?::([0-9]*+))?")
"""`uri-host [":" port]`, but without the comma: it is in no name, and is what joining two fields makes."""
_MAX_HOST_BYTES = 261
_MAX_PORT = 65535
_PROTOCOL = re.compile(rb"(?i:(?!h2|(?:http|tls)(?:/|$)))" + TOKEN + rb"(?:/" + TOKEN + rb")?")
"""What may be offered in `Upgrade` (RFC 9110, section 7.8). By the others a backend would go on to answer
requests, where weldr relays bytes."""


class RequestRefusedError(Exception):
    """weldr answers this request itself. `status` and one line for the client."""

    def __init__(self, status: int, reason: str, field_line: bytes | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.field_line = field_line
        """One more field of the answer."""


class RequestFields:
    """A section that can be forwarded. Shared between requests: nobody changes it."""

    __slots__ = (
        "_connection",
        "_hosts",
        "_rest",
        "_upgrade",
        "_version_11",
        "chunked",
        "content_length",
        "count",
        "ending",
        "forwarded",
        "has_request_id",
        "host",
        "lines",
        "max_forwards",
        "persistent",
        "route_host",
        "upgrade",
        "wants_trailer",
    )

    def __init__(self, section: bytes, *, version_11: bool) -> None:
        """`section` is what stands between the request line and the empty line, with the CRLF before each line.

        Raises `RequestRefusedError`.
        """
        self.ending = section + b"\r\n\r\n"
        """The section as it came and the empty line: what the end of a head with the same fields looks like."""
        try:
            section = canonical(section)
        except MalformedFieldError as error:
            raise RequestRefusedError(400, f"in the head of the request, {error}") from None
        self.count = section.count(b"\n")
        self.host: bytes | None = None
        """`None` for an HTTP/1.0 request that names none."""
        self.content_length: int | None = None
        self.chunked = False
        self.persistent = version_11
        """Whether the client wants to go on with this connection."""
        self.upgrade: bytes | None = None
        """The protocols that the client offers to change to, if the backend may be asked."""
        self.wants_trailer = False
        """Whether the client takes a trailer section with the response."""
        self.max_forwards: bytes | None = None
        self.has_request_id = False
        self.forwarded: ForwardedFields | None = None
        """What the client says of the request's origin."""
        self._version_11 = version_11
        self._hosts = 0
        self._connection: frozenset[bytes] = frozenset()
        self._upgrade: bytes | None = None
        parts = _SPLITTER.split(section)
        self._rest = parts[0] if len(parts) == 1 else b"".join(parts[::3])
        for index in range(1, len(parts), 3):
            _SPECIAL[parts[index].lower()](self, parts[index + 1])
        if self._hosts != 1 and (self._hosts or version_11):
            raise RequestRefusedError(400, "the request has no Host field, or several")
        # Must be valid also if the target then names another host.
        self.route_host = b"" if self.host is None else route_host(self.host)
        self._check_framing()
        self._read_connection()
        self.lines = self._all_lines()
        """What is forwarded of the section, with weldr's own `Via` and what it decides about the connection."""

    def _check_framing(self) -> None:
        if not self.chunked:
            return
        if self.content_length is not None:
            raise RequestRefusedError(400, "the request has both Content-Length and Transfer-Encoding")
        if not self._version_11:
            # RFC 9112, section 6.1: the framing of such a message is to be taken for faulty.
            raise RequestRefusedError(400, "an HTTP/1.0 request cannot have a Transfer-Encoding")

    def _read_connection(self) -> None:
        options = self._connection
        if b"close" in options:
            self.persistent = False
        elif b"keep-alive" in options:
            self.persistent = True
        # RFC 9110, section 7.8: Upgrade in an HTTP/1.0 request is ignored.
        if self._upgrade is not None and b"upgrade" in options and self._version_11:
            tokens = [token.strip(b" \t") for token in self._upgrade.split(b",")]
            offered = [token for token in tokens if _PROTOCOL.fullmatch(token)]
            self.upgrade = b", ".join(offered) or None
        named = options - _NOT_IN_SECTION
        if named:
            self._rest = without(self._rest, named)

    def _all_lines(self) -> bytes:
        lines = self._rest
        if self.content_length is not None:
            lines += b"\r\nContent-Length: %d" % self.content_length
        elif self.chunked:
            lines += b"\r\nTransfer-Encoding: chunked"
        if self.upgrade is not None:
            connection = b"Upgrade, TE" if self.wants_trailer else b"Upgrade"
            lines += b"\r\nConnection: " + connection + b"\r\nUpgrade: " + self.upgrade
        elif self.wants_trailer:
            lines += b"\r\nConnection: TE"
        if self.wants_trailer:
            lines += b"\r\nTE: trailers"
        return lines + (VIA_11 if self._version_11 else VIA_10)

    # What follows reads the fields; each of these is for one name of _SPECIAL.

    def _take_host(self, value: bytes) -> None:
        self._hosts += 1
        self.host = value

    def _take_connection(self, value: bytes) -> None:
        self._connection |= connection_options(value)

    def _take_content_length(self, value: bytes) -> None:
        length = content_length(value, self.content_length)
        if length is None:
            raise RequestRefusedError(400, "Content-Length is no number, too large, or given twice")
        self.content_length = length

    def _take_transfer_encoding(self, value: bytes) -> None:
        if self.chunked or value.lower() != b"chunked":
            raise RequestRefusedError(400, "the only Transfer-Encoding that is taken is chunked, once")
        self.chunked = True

    def _take_upgrade(self, value: bytes) -> None:
        self._upgrade = value if self._upgrade is None else self._upgrade + b"," + value

    def _take_te(self, value: bytes) -> None:
        # Trailers from a backend come in chunks, which an HTTP/1.0 client does not know.
        if self._version_11 and b"trailers" in connection_options(value):
            self.wants_trailer = True

    def _take_max_forwards(self, value: bytes) -> None:
        self.max_forwards = value if self.max_forwards is None else self.max_forwards + b", " + value

    def _take_expect(self, value: bytes) -> None:
        # RFC 9110, section 10.1.1: of an HTTP/1.0 client the expectation is ignored, since it knows no 100.
        if self._version_11:
            self._rest += b"\r\nExpect: " + value

    def _take_request_id(self, value: bytes) -> None:
        if value:
            self.has_request_id = True
            self._rest += b"\r\nX-Request-Id: " + value

    def _take_forwarded(self, name: bytes, value: bytes) -> None:
        if self.forwarded is None:
            self.forwarded = ForwardedFields()
        self.forwarded.add(name, value)

    def _refuse_look_alike(self, value: bytes) -> None:
        raise RequestRefusedError(400, "a field that frames the request is spelled with an underscore")

    def _drop(self, value: bytes) -> None:
        pass


def _look_alikes(name: bytes) -> Iterator[bytes]:
    """The name with underscores. CGI and its kin, WSGI among them, cannot tell these from the name itself."""
    for joints in product(b"-_", repeat=name.count(b"-")):
        parts = iter(joints)
        spelled = bytes(next(parts) if byte == b"-"[0] else byte for byte in name)
        if spelled != name:
            yield spelled


def _forwarded_taker(name: bytes) -> Callable[[RequestFields, bytes], None]:
    return lambda fields, value: fields._take_forwarded(name, value)


_SPECIAL: dict[bytes, Callable[[RequestFields, bytes], None]] = {
    b"host": RequestFields._take_host,
    b"connection": RequestFields._take_connection,
    b"content-length": RequestFields._take_content_length,
    b"transfer-encoding": RequestFields._take_transfer_encoding,
    b"upgrade": RequestFields._take_upgrade,
    b"te": RequestFields._take_te,
    b"max-forwards": RequestFields._take_max_forwards,
    b"expect": RequestFields._take_expect,
    b"x-request-id": RequestFields._take_request_id,
    # Hop by hop: RFC 9110, section 7.6.1, and what RFC 2616 counted among them.
    b"keep-alive": RequestFields._drop,
    b"proxy-connection": RequestFields._drop,
    b"proxy-authenticate": RequestFields._drop,
    b"proxy-authorization": RequestFields._drop,
    b"trailer": RequestFields._drop,
    b"http2-settings": RequestFields._drop,
}
_SPECIAL |= {name: _forwarded_taker(name) for name in ForwardedFields.NAMES}
_SPECIAL |= {alike: RequestFields._drop for name in ForwardedFields.NAMES for alike in _look_alikes(name)}
_SPECIAL |= {
    alike: RequestFields._refuse_look_alike
    for name in (b"content-length", b"transfer-encoding")
    for alike in _look_alikes(name)
}

_SPLITTER = splitter(_SPECIAL)
_NOT_IN_SECTION = frozenset((b"close", b"keep-alive", b"upgrade", b"te")) | PROTECTED


@lru_cache(maxsize=REMEMBERED_SECTIONS)
def _remembered(section: bytes, version_11: bool) -> RequestFields:
    return RequestFields(section, version_11=version_11)


def request_fields(section: bytes, version_11: bool) -> RequestFields:
    """The meaning of a section.

    Raises `RequestRefusedError`.
    """
    if len(section) <= MAX_REMEMBERED_SECTION_BYTES:
        return _remembered(section, version_11)
    return RequestFields(section, version_11=version_11)


def route_host(host: bytes) -> bytes:
    """The host as routes know it: in lower case, without port and trailing dot.

    Raises `RequestRefusedError` if it is no `uri-host [":" port]` of RFC 9110, section 7.2, or no port at all.
    """
    name = _remembered_route_host(host) if len(host) <= _MAX_HOST_BYTES else b""
    if not name:
        raise RequestRefusedError(400, "the host is empty or malformed")
    return name


@lru_cache(maxsize=1024)
def _remembered_route_host(host: bytes) -> bytes:
    found = _HOST.fullmatch(host)
    if found is None:
        return b""
    name, port = found.groups()
    if port and int(port) > _MAX_PORT:
        return b""
    if name.startswith(b"["):
        return name.lower() if _is_ipv6(name[1:-1]) else b""
    return name.lower().removesuffix(b".")


def _is_ipv6(text: bytes) -> bool:
    try:
        ipaddress.IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return True


def request_id_of(lines: bytes) -> bytes:
    """The `X-Request-Id` in the lines of a section; empty if there is none."""
    found = _REQUEST_ID.search(lines)
    return b"" if found is None else found[1]


_REQUEST_ID = re.compile(rb"\r\nX-Request-Id: ([^\r]*+)")
