"""What a request's head means, and the head that the backend gets for it.

Pure. The parser has checked the grammar of the fields; here is decided what weldr makes of them, and whatever
weldr would not understand in the same way as a backend is refused (RFC 9112, sections 3, 6 and 11.2). The head
that is forwarded is written anew from what was understood, never copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from weldr.proxy.fields import PROTECTED, VIA_10, VIA_11, connection_options, without

MAX_REQUEST_LINE_BYTES = 8 * 1024

REQUEST_LINE = re.compile(rb"(?:\r\n)*([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/(1\.[01])\r\n")
"""One space each, and nothing else that RFC 9112, section 3, lets a lenient recipient pass."""

_HOST = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+(?::[0-9]*)?|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?"
)
_MAX_HOST_BYTES = 261
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_SLASH = ord("/")
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_ALLOW = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
# A backend that took one of these would speak another protocol than the one that weldr relays.
_REFUSED_UPGRADES = (b"h2c", b"http/", b"tls/")


class RequestRefusedError(Exception):
    """weldr answers this request itself. `status` and one line for the client."""

    def __init__(self, status: int, reason: str, field_line: bytes | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.field_line = field_line
        """One more field of the answer."""


class RequestHead:
    """A request that can be forwarded."""

    __slots__ = (
        "_connection",
        "_hosts",
        "_lines",
        "_max_forwards",
        "_upgrade",
        "chunked",
        "content_length",
        "host",
        "method",
        "persistent",
        "route_host",
        "target",
        "upgrade",
        "version_11",
    )

    def __init__(self, method: bytes, target: bytes, *, version_11: bool) -> None:
        self.method = method
        self.target = target
        """As it is forwarded: in origin form or `*`."""
        self.version_11 = version_11
        self.host = b""
        self.route_host = b""
        """The host in lower case, without port and trailing dot."""
        self.content_length: int | None = None
        self.chunked = False
        self.persistent = version_11
        """Whether the client wants to go on with this connection."""
        self.upgrade: bytes | None = None
        """The protocols that the client offers to change to, if the backend may be asked."""
        self._hosts = 0
        self._connection: frozenset[bytes] = frozenset()
        self._upgrade: list[bytes] = []
        self._max_forwards: int | None = None
        self._lines: list[bytes] = []

    @property
    def has_body(self) -> bool:
        """Whether a body follows, be it an empty one."""
        return self.chunked or bool(self.content_length)

    @property
    def idempotent(self) -> bool:
        """Whether doing it twice does no more than doing it once (RFC 9110, section 9.2.2)."""
        return self.method in _IDEMPOTENT

    def forwarded(self, forwarded_for: bytes) -> bytes:
        """The head for the backend. `forwarded_for` are the field lines that say who the client is."""
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"Host: " + self.host]
        lines += self._lines
        if self.chunked:
            lines.append(b"Transfer-Encoding: chunked")
        elif self.content_length is not None:
            lines.append(b"Content-Length: %d" % self.content_length)
        if self.upgrade is not None:
            lines.append(b"Connection: Upgrade\r\nUpgrade: " + self.upgrade)
        lines.append(VIA_11 if self.version_11 else VIA_10)
        lines.append(b"X-Forwarded-Host: " + self.host)
        lines.append(forwarded_for)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)

    # What follows reads the fields; each of these is for one name of _SPECIAL.

    def _take_host(self, value: bytes) -> None:
        self._hosts += 1
        self.host = value.strip(b" \t")

    def _take_connection(self, value: bytes) -> None:
        self._connection |= connection_options(value)

    def _take_content_length(self, value: bytes) -> None:
        digits = value.strip(b" \t")
        if self.content_length is not None or not digits.isdigit():
            raise RequestRefusedError(400, "Content-Length is repeated or is no number")
        self.content_length = int(digits)

    def _take_transfer_encoding(self, value: bytes) -> None:
        if self.chunked or value.strip(b" \t").lower() != b"chunked":
            raise RequestRefusedError(400, "the only Transfer-Encoding that is taken is chunked, once")
        self.chunked = True

    def _take_upgrade(self, value: bytes) -> None:
        self._upgrade += [token.strip(b" \t") for token in value.split(b",")]

    def _take_max_forwards(self, value: bytes) -> None:
        digits = value.strip(b" \t")
        if self.method != b"OPTIONS":
            self._lines.append(b"Max-Forwards: " + digits)
        elif not digits.isdigit() or len(digits) > 9 or self._max_forwards is not None:
            raise RequestRefusedError(400, "Max-Forwards is repeated or is no number")
        else:
            self._max_forwards = int(digits)

    def _take_expect(self, value: bytes) -> None:
        # RFC 9110, section 10.1.1: of an HTTP/1.0 client the expectation is ignored, since it knows no 100.
        if self.version_11:
            self._lines.append(b"Expect: " + value)

    def _drop(self, value: bytes) -> None:
        pass

    def read(self, fields: list[tuple[bytes, bytes]], default_host: bytes) -> None:
        """Take over the fields. `default_host` is for an HTTP/1.0 request that names none.

        Raises `RequestRefusedError`.
        """
        lines = self._lines
        for name, value in fields:
            special = _SPECIAL.get(name.lower())
            if special is None:
                lines.append(name + b": " + value)
            else:
                special(self, value)
        if self.method in _REFUSED_METHODS:
            raise RequestRefusedError(405, f"the method {self.method.decode()} is not supported", _ALLOW)
        if self._hosts == 0 and not self.version_11:
            self.host, self._hosts = default_host, 1
        self._read_host()
        self._read_framing()
        if self._connection:
            self._read_connection()
        if self._max_forwards is not None:
            self._read_max_forwards()

    def _read_host(self) -> None:
        if self._hosts != 1:
            raise RequestRefusedError(400, "the request has no Host field, or several")
        # Must be valid also if the target then names another host.
        self.route_host = route_host(self.host)
        if self.target[0] != _SLASH:
            self._read_target()
        elif b"#" in self.target:
            raise RequestRefusedError(400, "the target of the request has a fragment")

    def _read_target(self) -> None:
        """A target in another form than the origin form (RFC 9112, section 3.2)."""
        if self.target == b"*" and self.method == b"OPTIONS":
            return
        absolute = _ABSOLUTE.fullmatch(self.target)
        if absolute is None:
            raise RequestRefusedError(400, "the target of the request is malformed")
        self.host, path = absolute.groups()
        self.route_host = route_host(self.host)
        if not path and self.method == b"OPTIONS":
            self.target = b"*"
        else:
            self.target = path if path.startswith(b"/") else b"/" + path

    def _read_framing(self) -> None:
        if self.chunked and self.content_length is not None:
            raise RequestRefusedError(400, "the request has both Content-Length and Transfer-Encoding")
        if self.chunked and not self.version_11:
            # RFC 9112, section 6.1: the framing of such a message is to be taken for faulty.
            raise RequestRefusedError(400, "an HTTP/1.0 request cannot have a Transfer-Encoding")

    def _read_connection(self) -> None:
        options = self._connection
        if b"close" in options:
            self.persistent = False
        elif b"keep-alive" in options:
            self.persistent = True
        # RFC 9110, section 7.8: Upgrade in an HTTP/1.0 request is ignored.
        if b"upgrade" in options and self._upgrade and self.version_11:
            tokens = [token for token in self._upgrade if token and _may_upgrade(token)]
            self.upgrade = b", ".join(tokens) or None
        named = options - _USUAL_OPTIONS - PROTECTED
        if named:
            self._lines = without(self._lines, named)

    def _read_max_forwards(self) -> None:
        assert self._max_forwards is not None
        if self._max_forwards == 0:
            raise RequestRefusedError(200, "this is weldr, the last recipient by Max-Forwards", _ALLOW)
        self._lines.append(b"Max-Forwards: %d" % (self._max_forwards - 1))


_USUAL_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))

_SPECIAL: dict[bytes, Callable[[RequestHead, bytes], None]] = {
    b"host": RequestHead._take_host,
    b"connection": RequestHead._take_connection,
    b"content-length": RequestHead._take_content_length,
    b"transfer-encoding": RequestHead._take_transfer_encoding,
    b"upgrade": RequestHead._take_upgrade,
    b"max-forwards": RequestHead._take_max_forwards,
    b"expect": RequestHead._take_expect,
    # The client's word on where it comes from: it is not trusted, and weldr's own takes its place.
    b"forwarded": RequestHead._drop,
    b"x-forwarded-for": RequestHead._drop,
    b"x-forwarded-host": RequestHead._drop,
    b"x-forwarded-port": RequestHead._drop,
    b"x-forwarded-proto": RequestHead._drop,
    b"keep-alive": RequestHead._drop,
    b"proxy-connection": RequestHead._drop,
    b"proxy-authenticate": RequestHead._drop,
    b"proxy-authorization": RequestHead._drop,
    b"te": RequestHead._drop,
    b"trailer": RequestHead._drop,
    b"http2-settings": RequestHead._drop,
}


def _may_upgrade(token: bytes) -> bool:
    return not token.lower().startswith(_REFUSED_UPGRADES)


def route_host(host: bytes) -> bytes:
    """The host as routes know it: in lower case, without port and trailing dot.

    Raises `RequestRefusedError` if it is no `uri-host [":" port]` of RFC 9110, section 7.2.
    """
    name = _remembered_route_host(host) if len(host) <= _MAX_HOST_BYTES else b""
    if not name:
        raise RequestRefusedError(400, "the host is empty or malformed")
    return name


@lru_cache(maxsize=1024)
def _remembered_route_host(host: bytes) -> bytes:
    if not _HOST.fullmatch(host):
        return b""
    name = host.lower()
    if not name.endswith(b"]"):
        bare, separator, _ = name.rpartition(b":")
        name = bare if separator else name
    return name.removesuffix(b".")
