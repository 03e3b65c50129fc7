"""What a response's head means, and the head that the client gets for it. Pure.

As with requests, it is written anew from what was understood. What a head means depends on nothing but its
bytes, and backends send the same ones again and again: so the latest meanings are remembered, by all of a head.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from weldr.model.values import Limits
from weldr.proxy.fields import (
    MAX_REMEMBERED_SECTION_BYTES,
    REMEMBERED_SECTIONS,
    connection_options,
    has_stray_control,
)
from weldr.proxy.response_fields import ResponseFields, ResponseInvalidError

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t \x21-\x7e\x80-\xff]*+))?")
"""Without a reason phrase also its space may be missing, as some servers have it."""
_BEGINNING = b"HTTP/1."
_EMPTY_LINE = b"\r\n\r\n"
BODILESS = frozenset((204, 304))
_MAX_REMEMBERED_LINE_BYTES = 80


class StatusLine(NamedTuple):
    """What a status line means; `forwarded` is the one for the client."""

    status: int
    version_11: bool
    forwarded: bytes


class ResponseHead:
    """A response that can be forwarded, an interim one (1xx) or a final one. Shared: nobody changes it."""

    __slots__ = ("_line", "_offer", "came", "fields", "plain", "plain_body_bytes", "status", "version_11")

    def __init__(self, came: bytes, line: StatusLine, fields: ResponseFields) -> None:
        """`came` are the bytes that were read, to the end of the head."""
        self.came = came
        self.status = line.status
        self.version_11 = line.version_11
        self.fields = fields
        self._line = line.forwarded
        self._offer = b""
        """The lines that a 426 has to have (RFC 9110, section 15.5.22)."""
        if self.status == 426 and fields.upgrade:
            self._offer = b"\r\nConnection: Upgrade\r\nUpgrade: " + fields.upgrade
        self.plain = b""
        """The final head without its end, for a client whose connection goes on, ..."""
        self.plain_body_bytes = -1
        """... if it is of HTTP/1.1, a body of just so many bytes follows, and the backend's connection goes on,
        too."""
        # That a backend answered by HTTP/1.0 is to be noted, which the short cut does not do.
        length = fields.content_length if line.version_11 else None
        if length is not None and self.has_body(b"") and fields.persistent and fields.kept_s is None:
            self.plain_body_bytes = length
            self.plain = b"".join((self._line, fields.lines, self._offer, b"\r\nContent-Length: %d" % length))

    def has_body(self, request_method: bytes) -> bool:
        """Whether a body follows, be it an empty one (RFC 9112, section 6.3)."""
        return request_method != b"HEAD" and self.status >= 200 and self.status not in BODILESS

    @property
    def promises_too_much(self) -> bool:
        """Whether it frames a body that a 204 cannot have (RFC 9110, section 8.6): it may still come."""
        return self.status == 204 and (self.fields.chunked or bool(self.fields.content_length))

    @property
    def switches(self) -> bool:
        """Whether it says that the connection now speaks another protocol."""
        return self.status == 101 and self.fields.upgrade is not None

    def switches_to(self, offered: bytes | None) -> bool:
        """Whether it changes to what is among the protocols that were `offered` (RFC 9110, section 7.8)."""
        upgrade = self.fields.upgrade
        if not self.switches or offered is None or not upgrade:
            return False
        return connection_options(upgrade) <= connection_options(offered)

    def interim(self, lines: bytes | None = None) -> bytes:
        """The bytes of a 1xx response, including the 101 that begins a tunnel.

        `lines` stand in place of the section's own.
        """
        upgrade = self.fields.upgrade if self.switches else None
        connection = b"" if upgrade is None else b"\r\nConnection: Upgrade\r\nUpgrade: " + upgrade
        if lines is None:
            lines = self.fields.lines
        return b"".join((self._line, lines, connection, _EMPTY_LINE))

    def final(
        self,
        framing: bytes,
        connection: bytes,
        date: bytes,
        *,
        trailer: bool = False,
        lines: bytes | None = None,
    ) -> tuple[bytes, ...]:
        """The parts of a final response's head, with these lines for the client's connection.

        `lines` stand in place of the section's own.

        `date` is used if the backend sent none (RFC 9110, section 6.6.1). `trailer` says that a trailer section
        is passed on, and so the names that the backend announced for it are, too.
        """
        fields = self.fields
        announced = fields.trailer if trailer else b""
        date = b"" if fields.has_date else date
        if lines is None:
            lines = fields.lines
        return self._line, lines, self._offer, framing, connection, date, announced, _EMPTY_LINE


def read_head(data: bytes, position: int, limits: Limits) -> tuple[ResponseHead, int] | None:
    """The head that begins at `position`, and the position after it; `None` if it is not complete yet.

    Raises `ResponseInvalidError`, as early as it is certain.
    """
    end = data.find(_EMPTY_LINE, position)
    if end < 0:
        check_incomplete(data, position, limits, position)
        return None
    if end - position > limits.head_bytes:
        raise _too_large(limits)
    read = remembered_head if end - position <= MAX_REMEMBERED_SECTION_BYTES else _read
    head = read(data[position:end])
    if head.fields.count > limits.head_fields:
        raise _too_large(limits)
    return head, end + len(_EMPTY_LINE)


def _read(head: bytes) -> ResponseHead:
    line_end = head.find(b"\r\n")
    if line_end < 0:
        line_end = len(head)
    line = status_line(head[:line_end])
    return ResponseHead(head + _EMPTY_LINE, line, ResponseFields(head[line_end:], version_11=line.version_11))


remembered_head = lru_cache(maxsize=REMEMBERED_SECTIONS)(_read)


def check_incomplete(data: bytes | bytearray, position: int, limits: Limits, fresh: int) -> None:
    """Judge what there is of a head whose end has not come. What is before `fresh` was judged before.

    Raises `ResponseInvalidError`.
    """
    beginning = data[position : position + len(_BEGINNING)]
    if not _BEGINNING.startswith(beginning):
        raise ResponseInvalidError("http_protocol_error", "the response is not of HTTP/1")
    # Of the empty line at its end, which does not count, all but one byte may be there.
    if len(data) - position - len(_EMPTY_LINE) + 1 > limits.head_bytes:
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


def status_line(line: bytes) -> StatusLine:
    """The meaning of a status line, without its CRLF.

    Raises `ResponseInvalidError`.
    """
    if len(line) <= _MAX_REMEMBERED_LINE_BYTES:
        return _remembered_status_line(line)
    return _read_status_line(line)


def _read_status_line(line: bytes) -> StatusLine:
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise ResponseInvalidError("http_protocol_error", "the status line of the response is malformed")
    minor, digits, reason = found.groups()
    status = int(digits)
    if (
        reason is None
        or len(line) > _MAX_REMEMBERED_LINE_BYTES
        or not reason.isascii()
        or not reason.decode("ascii").isprintable()
    ):
        reason = standard_reason(status)
    return StatusLine(status, minor == b"1", b"HTTP/1.1 %d %b" % (status, reason))


_remembered_status_line = lru_cache(maxsize=256)(_read_status_line)


def standard_reason(status: int) -> bytes:
    """The usual reason phrase of a status; empty for one that has none."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""
