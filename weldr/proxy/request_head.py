"""What a request's head means, and the head that the backend gets for it.

Pure. Whatever weldr would not understand in the same way as a backend is refused (RFC 9112, sections 3, 6 and
11.2). The head that is forwarded is written anew from what was understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from weldr.model.values import Limits
from weldr.proxy.fields import (
    CANONICAL_SECTION,
    PROTECTED,
    TOKEN,
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
from weldr.proxy.forwarding import ForwardedFields, Forwarding

_LINE = rb"(" + TOKEN + rb") ([!-~]++) HTTP/1\.([01])"
"""One space each, and nothing else that RFC 9112, section 3, lets a lenient recipient pass."""
_CANONICAL_HEAD = re.compile(_LINE + CANONICAL_SECTION)
_REQUEST_LINE = re.compile(_LINE)
_OTHER_VERSION = re.compile(TOKEN + rb" [!-~]++ HTTP/(?!1\.[01])[0-9]\.[0-9]")
_EMPTY_LINE = b"\r\n\r\n"

_HOST = re.compile(
    rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})++(?::[0-9]*+)?|\[[0-9A-Fa-f:.]++\](?::[0-9]*+)?"
)
_MAX_HOST_BYTES = 261
_BEGINNING = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*+)([^#]*+)", re.IGNORECASE)
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
        "_forwarded",
        "_hosts",
        "_max_forwards",
        "_request_id",
        "_section",
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
        "wants_trailer",
    )

    def __init__(self, method: bytes, target: bytes, *, version_11: bool, section: bytes, default_host: bytes):
        """`section` is canonical. `default_host` is for an HTTP/1.0 request that names none.

        Raises `RequestRefusedError`.
        """
        self.method = method
        self.target = target
        """As it is forwarded: in origin form or `*`."""
        self.version_11 = version_11
        self.host = b""
        self.content_length: int | None = None
        self.chunked = False
        self.persistent = version_11
        """Whether the client wants to go on with this connection."""
        self.upgrade: bytes | None = None
        """The protocols that the client offers to change to, if the backend may be asked."""
        self.wants_trailer = False
        """Whether the client takes a trailer section with the response."""
        self._hosts = 0
        self._connection: frozenset[bytes] | None = None
        self._upgrade: bytes | None = None
        self._max_forwards: int | None = None
        self._request_id = False
        self._forwarded: ForwardedFields | None = None
        parts = _SPLITTER.split(section)
        self._section = parts[0] if len(parts) == 1 else b"".join(parts[::3])
        for index in range(1, len(parts), 3):
            _SPECIAL[parts[index].lower()](self, parts[index + 1])
        if method in _REFUSED_METHODS:
            raise RequestRefusedError(405, f"the method {method.decode()} is not supported", _ALLOW)
        if self._hosts != 1:
            if self._hosts or version_11:
                raise RequestRefusedError(400, "the request has no Host field, or several")
            self.host = default_host
        # Must be valid also if the target then names another host.
        self.route_host = route_host(self.host)
        """The host in lower case, without port and trailing dot."""
        if target[0] != _SLASH or b"#" in target:
            self._read_target()
        if self.chunked:
            self._check_framing()
        if self._connection is not None:
            self._read_connection(self._connection)
        if self._max_forwards is not None:
            self._read_max_forwards()

    @property
    def has_body(self) -> bool:
        """Whether a body follows, be it an empty one."""
        return self.chunked or bool(self.content_length)

    @property
    def idempotent(self) -> bool:
        """Whether doing it twice does no more than doing it once (RFC 9110, section 9.2.2)."""
        return self.method in _IDEMPOTENT

    def forwarded(self, forwarding: Forwarding, request_id_line: Callable[[], bytes]) -> bytes:
        """The head for the backend. `request_id_line` makes one for a request that has none yet."""
        parts = [self.method, b" ", self.target, b" HTTP/1.1\r\nHost: ", self.host, self._section]
        if self.content_length is not None:
            parts.append(b"\r\nContent-Length: %d" % self.content_length)
        elif self.chunked:
            parts.append(b"\r\nTransfer-Encoding: chunked")
        if self.upgrade is not None:
            connection = b"Upgrade, TE" if self.wants_trailer else b"Upgrade"
            parts.append(b"\r\nConnection: " + connection + b"\r\nUpgrade: " + self.upgrade)
        elif self.wants_trailer:
            parts.append(b"\r\nConnection: TE")
        if self.wants_trailer:
            parts.append(b"\r\nTE: trailers")
        if not self._request_id:
            parts.append(request_id_line())
        parts.append(VIA_11 if self.version_11 else VIA_10)
        parts.append(forwarding.lines(self.host, self._forwarded))
        parts.append(_EMPTY_LINE)
        return b"".join(parts)

    def _read_target(self) -> None:
        """A target in another form than the origin form (RFC 9112, section 3.2)."""
        target = self.target
        if target == b"*" and self.method == b"OPTIONS":
            return
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise RequestRefusedError(400, "the target of the request is malformed, or has a fragment")
        self.host, path = absolute.groups()
        self.route_host = route_host(self.host)
        if not path and self.method == b"OPTIONS":
            self.target = b"*"
        else:
            self.target = path if path.startswith(b"/") else b"/" + path

    def _check_framing(self) -> None:
        if self.content_length is not None:
            raise RequestRefusedError(400, "the request has both Content-Length and Transfer-Encoding")
        if not self.version_11:
            # RFC 9112, section 6.1: the framing of such a message is to be taken for faulty.
            raise RequestRefusedError(400, "an HTTP/1.0 request cannot have a Transfer-Encoding")

    def _read_connection(self, options: frozenset[bytes]) -> None:
        if b"close" in options:
            self.persistent = False
        elif b"keep-alive" in options:
            self.persistent = True
        # RFC 9110, section 7.8: Upgrade in an HTTP/1.0 request is ignored.
        if self._upgrade is not None and b"upgrade" in options and self.version_11:
            tokens = [token.strip(b" \t") for token in self._upgrade.split(b",")]
            offered = [token for token in tokens if token and not token.lower().startswith(_REFUSED_UPGRADES)]
            self.upgrade = b", ".join(offered) or None
        named = options - _NOT_IN_SECTION
        if named:
            self._section = without(self._section, named)

    def _read_max_forwards(self) -> None:
        assert self._max_forwards is not None
        if self._max_forwards == 0:
            raise RequestRefusedError(200, "this is weldr, the last recipient by Max-Forwards", _ALLOW)
        self._section += b"\r\nMax-Forwards: %d" % (self._max_forwards - 1)

    # What follows reads the fields; each of these is for one name of _SPECIAL.

    def _take_host(self, value: bytes) -> None:
        self._hosts += 1
        self.host = value

    def _take_connection(self, value: bytes) -> None:
        options = connection_options(value)
        self._connection = options if self._connection is None else self._connection | options

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
        if self.version_11 and b"trailers" in connection_options(value):
            self.wants_trailer = True

    def _take_max_forwards(self, value: bytes) -> None:
        if self.method != b"OPTIONS":
            self._section += b"\r\nMax-Forwards: " + value
        elif not value.isdigit() or len(value) > 9 or self._max_forwards is not None:
            raise RequestRefusedError(400, "Max-Forwards is repeated or is no number")
        else:
            self._max_forwards = int(value)

    def _take_expect(self, value: bytes) -> None:
        # RFC 9110, section 10.1.1: of an HTTP/1.0 client the expectation is ignored, since it knows no 100.
        if self.version_11:
            self._section += b"\r\nExpect: " + value

    def _take_request_id(self, value: bytes) -> None:
        self._request_id = True
        self._section += b"\r\nX-Request-Id: " + value

    def _take_forwarded(self, name: bytes, value: bytes) -> None:
        if self._forwarded is None:
            self._forwarded = ForwardedFields()
        self._forwarded.add(name, value)

    def _drop(self, value: bytes) -> None:
        pass


def _forwarded_taker(name: bytes) -> Callable[[RequestHead, bytes], None]:
    return lambda head, value: head._take_forwarded(name, value)


_SPECIAL: dict[bytes, Callable[[RequestHead, bytes], None]] = {
    b"host": RequestHead._take_host,
    b"connection": RequestHead._take_connection,
    b"content-length": RequestHead._take_content_length,
    b"transfer-encoding": RequestHead._take_transfer_encoding,
    b"upgrade": RequestHead._take_upgrade,
    b"te": RequestHead._take_te,
    b"max-forwards": RequestHead._take_max_forwards,
    b"expect": RequestHead._take_expect,
    b"x-request-id": RequestHead._take_request_id,
    # Hop by hop: RFC 9110, section 7.6.1, and what RFC 2616 counted among them.
    b"keep-alive": RequestHead._drop,
    b"proxy-connection": RequestHead._drop,
    b"proxy-authenticate": RequestHead._drop,
    b"proxy-authorization": RequestHead._drop,
    b"trailer": RequestHead._drop,
    b"http2-settings": RequestHead._drop,
} | {name: _forwarded_taker(name) for name in ForwardedFields.NAMES}

_SPLITTER = splitter(_SPECIAL)
_NOT_IN_SECTION = frozenset((b"close", b"keep-alive", b"upgrade", b"te")) | PROTECTED


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


def read_head(
    data: bytes | bytearray, position: int, limits: Limits, default_host: bytes
) -> tuple[RequestHead, int] | None:
    """The head that begins at `position`, and the position after it; `None` if it is not complete yet.

    Raises `RequestRefusedError`, as early as it is certain.
    """
    found = _CANONICAL_HEAD.match(data, position)
    if found is not None:
        method, target, minor, section = found.groups()
        end = found.end()
        line_bytes = found.start(4) - position
        if line_bytes > limits.request_line_bytes or end - position > limits.head_bytes:
            _check_line_and_size(data, position, end, limits)
    else:
        end = data.find(_EMPTY_LINE, position) + len(_EMPTY_LINE)
        if end < position + len(_EMPTY_LINE):
            check_incomplete(data, position, limits, position)
            return None
        _check_line_and_size(data, position, end, limits)
        head = bytes(data[position : end - len(_EMPTY_LINE)])
        line = _REQUEST_LINE.match(head)
        assert line is not None  # or it was refused above
        method, target, minor = line.groups()
        try:
            section = canonical(head[line.end() :])
        except MalformedFieldError as error:
            raise RequestRefusedError(400, f"in the head of the request, {error}") from None
    if section.count(b"\n") > limits.head_fields:
        raise RequestRefusedError(431, f"the request has more than {limits.head_fields} fields")
    return RequestHead(
        method, target, version_11=minor == b"1", section=section, default_host=default_host
    ), end


def check_incomplete(data: bytes | bytearray, position: int, limits: Limits, fresh: int) -> None:
    """Judge what there is of a head whose end has not come. What is before `fresh` was judged before.

    Raises `RequestRefusedError`.
    """
    _check_line_and_size(data, position, len(data), limits)
    if has_stray_control(data, fresh):
        raise RequestRefusedError(400, "the head of the request holds a stray control character")


def _check_line_and_size(data: bytes | bytearray, position: int, end: int, limits: Limits) -> None:
    line_end = data.find(b"\r\n", position, end)
    if line_end < 0 and data.endswith(b"\r"):
        end -= 1
    line_bytes = (end if line_end < 0 else line_end) - position
    if line_bytes > limits.request_line_bytes:
        raise RequestRefusedError(414, f"the request line has more than {limits.request_line_bytes} bytes")
    if line_end < 0:
        if not _BEGINNING.match(data, position):
            raise RequestRefusedError(400, "the request line is malformed")
    elif not _REQUEST_LINE.fullmatch(data, position, line_end):
        if _OTHER_VERSION.fullmatch(data, position, line_end):
            raise RequestRefusedError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        raise RequestRefusedError(400, "the request line is malformed")
    if end - position > limits.head_bytes:
        raise RequestRefusedError(431, f"the head of the request has more than {limits.head_bytes} bytes")
