"""What a request's head means, and the head that the backend gets for it.

Pure. Whatever weldr would not understand in the same way as a backend is refused (RFC 9112, sections 3, 6 and
11.2). The head that is forwarded is written anew from what was understood.
"""

from __future__ import annotations

import re

from weldr.model.values import Limits
from weldr.proxy.fields import TOKEN, has_stray_control
from weldr.proxy.forwarding import Forwarding
from weldr.proxy.request_fields import RequestFields, RequestRefusedError, request_fields, route_host

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-~]++) HTTP/1\.([01])")
"""One space each, and nothing else that RFC 9112, section 3, lets a lenient recipient pass."""
_OTHER_VERSION = re.compile(TOKEN + rb" [!-~]++ HTTP/(?!1\.[01])[0-9]\.[0-9]")
PLAIN_LINE = re.compile(rb"(" + TOKEN + rb") (/[!-\"$-~]*+) HTTP/1\.1")
"""One whose target is in origin form, without a fragment."""
_EMPTY_LINE = b"\r\n\r\n"

_BEGINNING = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*+)([^#]*+)", re.IGNORECASE)
_SLASH = ord("/")
_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_MOST_FORWARDS = 999_999_999
_ALLOW = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class RequestHead:
    """A request that can be forwarded."""

    __slots__ = ("fields", "host", "max_forwards_line", "method", "route_host", "target", "version_11")

    def __init__(
        self, method: bytes, target: bytes, fields: RequestFields, *, version_11: bool, default_host: bytes
    ) -> None:
        """`default_host` is for an HTTP/1.0 request that names none.

        Raises `RequestRefusedError`.
        """
        self.method = method
        self.target = target
        """As it is forwarded: in origin form or `*`."""
        self.version_11 = version_11
        self.fields = fields
        if method in REFUSED_METHODS:
            raise RequestRefusedError(405, f"the method {method.decode()} is not supported", _ALLOW)
        if fields.host is not None:
            self.host = fields.host
            self.route_host = fields.route_host
            """The host in lower case, without port and trailing dot."""
        else:
            self.host = default_host
            self.route_host = route_host(default_host)
        if target[0] != _SLASH or b"#" in target:
            self._read_target()
        self.max_forwards_line = (
            b"" if fields.max_forwards is None else self._next_max_forwards(fields.max_forwards)
        )

    @property
    def has_body(self) -> bool:
        """Whether a body follows, be it an empty one."""
        return self.fields.chunked or bool(self.fields.content_length)

    @property
    def idempotent(self) -> bool:
        """Whether doing it twice does no more than doing it once (RFC 9110, section 9.2.2)."""
        return self.method in _IDEMPOTENT

    def forwarded(self, forwarding: Forwarding, request_id_line: bytes, target: bytes, lines: bytes) -> bytes:
        """The head for the backend, with this target and these lines, which may be others than came.

        The first line is for a request that came without one.
        """
        return b"".join(
            (
                self.method,
                b" ",
                target,
                forwarding.rest(self.host, lines, self.fields.forwarded),
                self.max_forwards_line,
                request_id_line,
                _EMPTY_LINE,
            )
        )

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

    def _next_max_forwards(self, value: bytes) -> bytes:
        """The line for the next recipient (RFC 9110, section 7.6.2)."""
        if self.method != b"OPTIONS":
            return b"\r\nMax-Forwards: " + value
        if not value.isdigit():
            raise RequestRefusedError(400, "Max-Forwards is repeated or is no number")
        digits = value.lstrip(b"0")
        if not digits:
            raise RequestRefusedError(200, "this is weldr, the last recipient by Max-Forwards", _ALLOW)
        # The length comes first: reading a number takes time by the square of its digits.
        left = _MOST_FORWARDS if len(digits) > 9 else int(digits) - 1
        return b"\r\nMax-Forwards: %d" % left


def read_head(
    data: bytes, position: int, limits: Limits, default_host: bytes
) -> tuple[RequestHead, int] | None:
    """The head that begins at `position`, and the position after it; `None` if it is not complete yet.

    Raises `RequestRefusedError`, as early as it is certain.
    """
    end = data.find(_EMPTY_LINE, position)
    if end < 0:
        check_incomplete(data, position, limits, position)
        return None
    line = _REQUEST_LINE.match(data, position)
    line_end = end if line is None else line.end()
    if (
        line is None
        or not data.startswith(b"\r\n", line_end)
        or line_end - position > limits.request_line_bytes
        or end - position > limits.head_bytes
    ):
        _check_line(data, position, end + 2, limits)
        # As it would be if the head had come byte by byte.
        _check_controls(data, position, position + limits.head_bytes)
        _check_size(end - position, limits)
        raise AssertionError("what is wrong was found above")
    method, target, minor = line.groups()
    version_11 = minor == b"1"
    fields = request_fields(data[line_end:end], version_11)
    if fields.count > limits.head_fields:
        raise RequestRefusedError(431, f"the request has more than {limits.head_fields} fields")
    head = RequestHead(method, target, fields, version_11=version_11, default_host=default_host)
    return head, end + len(_EMPTY_LINE)


def check_incomplete(data: bytes | bytearray, position: int, limits: Limits, fresh: int) -> None:
    """Judge what there is of a head whose end has not come. What is before `fresh` was judged before.

    Raises `RequestRefusedError`.
    """
    _check_line(data, position, len(data), limits)
    _check_controls(data, fresh, position + limits.head_bytes)
    # Of the empty line at its end, which does not count, all but one byte may be there.
    _check_size(len(data) - position - len(_EMPTY_LINE) + 1, limits)


def _check_line(data: bytes | bytearray, position: int, end: int, limits: Limits) -> None:
    line_end = data.find(b"\r\n", position, end)
    if line_end < 0 and data.endswith(b"\r"):
        end -= 1
    line_bytes = (end if line_end < 0 else line_end) - position
    if line_bytes > limits.request_line_bytes or line_end < 0:
        # In this order, as it would be if the line had come byte by byte.
        if not _BEGINNING.match(data, position):
            raise RequestRefusedError(400, "the request line is malformed")
        if line_bytes > limits.request_line_bytes:
            _check_controls(data, position, position + limits.request_line_bytes)
            raise RequestRefusedError(414, f"the request line has more than {limits.request_line_bytes} bytes")
    elif not _REQUEST_LINE.fullmatch(data, position, line_end):
        if _OTHER_VERSION.fullmatch(data, position, line_end):
            raise RequestRefusedError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        raise RequestRefusedError(400, "the request line is malformed")


def _check_controls(data: bytes | bytearray, start: int, end: int) -> None:
    if has_stray_control(data, start, end):
        raise RequestRefusedError(400, "the head of the request holds a stray control character")


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.head_bytes:
        raise RequestRefusedError(431, f"the head of the request has more than {limits.head_bytes} bytes")
