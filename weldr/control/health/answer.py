"""Reads as much of an answer to a check as is needed to judge it. Pure, and bounded whatever comes."""

from __future__ import annotations

import re

from weldr.model.health import HealthCheck

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: |\r?\n|\Z)")
_END = re.compile(rb"\r?\n\r?\n")
_CHUNKED = re.compile(rb"\n(?i:transfer-encoding):[^\r\n]*\b(?i:chunked)")
_LENGTH = re.compile(rb"\n(?i:content-length):[ \t]*([0-9]{1,18})[ \t]*\r?\n")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]{0,100}\r?\n")


class Answer:
    """The answer to one check."""

    def __init__(self, check: HealthCheck) -> None:
        self._check = check
        self._text = None if check.body is None else check.body.encode()
        self._data = b""
        self._status = 0
        self._is_http = True

    def feed(self, data: bytes) -> bool:
        """Whether enough is there, or so much that no more is read."""
        self._data += data
        if not self._status:
            self._read_head()
        if not self._status:
            return not self._is_http or len(self._data) > MAX_HEAD_BYTES
        if self._text is None or not self._check.accepts(self._status):
            return True
        body, complete = self._body()
        return complete or len(self._data) > MAX_BODY_BYTES or self._text in body

    def failure(self) -> str | None:
        """Why this answer is no pass, once `feed` was true or no more can come; `None` if it is one."""
        if not self._data:
            return "it closed the connection without an answer"
        if not self._status:
            return "its answer is not of HTTP/1, or has no end"
        if not self._check.accepts(self._status):
            return f"it answered with status {self._status}, not {self._check.status}"
        if self._text is not None and self._text not in self._body()[0]:
            return f"the body of its answer does not hold {self._check.body!r}"
        return None

    def _read_head(self) -> None:
        """Find the final status; interim answers (1xx) before it are cut off."""
        while (end := _END.search(self._data)) is not None:
            line = _STATUS_LINE.match(self._data)
            if line is None:
                self._is_http = False
                return
            if (status := int(line[1])) >= 200:
                self._status = status
                return
            self._data = self._data[end.end() :]

    def _body(self) -> tuple[bytes, bool]:
        """What has come of it, and whether that is all."""
        end = _END.search(self._data)
        assert end is not None
        head, body = self._data[: end.end()], self._data[end.end() :]
        if self._check.method == "HEAD" or self._status in (204, 304):
            return b"", True
        if _CHUNKED.search(head):
            return _unchunked(body)
        length = _LENGTH.search(head)
        if length is None:
            return body, False
        return body[: int(length[1])], len(body) >= int(length[1])


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """A chunked body without its framing, and whether its last chunk has come."""
    parts: list[bytes] = []
    position = 0
    while (size := _CHUNK.match(data, position)) is not None:
        start, length = size.end(), int(size[1], 16)
        if length == 0:
            return b"".join(parts), True
        parts.append(data[start : start + length])
        position = start + length + 2
    return b"".join(parts), False
