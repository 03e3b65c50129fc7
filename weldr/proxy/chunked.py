"""The chunked coding (RFC 9112, section 7.1), decoded and written. No I/O."""

from __future__ import annotations

import re

from weldr.proxy.fields import TOKEN, MalformedFieldError, canonical, has_stray_control

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_VALUE = rb"[ \t]*+=[ \t]*+(?:" + TOKEN + rb"|" + _QUOTED + rb")"
_EXTENSION = rb"[ \t]*+;[ \t]*+" + TOKEN + rb"(?:" + _VALUE + rb")?+"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*+\r\n")
"""With extensions, which are dropped (section 7.1.1). They have to be well-formed: where one reader goes
on to the quote that is missing, and another to the end of the line, each sees other chunks."""

_MAX_SIZE_LINE_BYTES = 4096
_SIZE_BYTES = 18
"""Of a line with no more than a size and its CRLF; the rest is an extension."""
_MAX_SIZE = 1 << 62
_MOST_PARTS = 64
"""Of what is read at once: a part takes as much memory as dozens of bytes, and may have to wait for its way."""


class ChunkedError(Exception):
    """The body is no chunked one."""


class ChunkedDecoder:
    """Reads one body."""

    __slots__ = (
        "_body",
        "_excess_bytes",
        "_left",
        "_max_trailer_bytes",
        "_max_trailer_fields",
        "_partial",
        "_state",
        "complete",
        "trailer",
    )

    def __init__(self, max_trailer_bytes: int, max_trailer_fields: int) -> None:
        """By as many bytes as a trailer section may have, the extensions may exceed the content, too."""
        self._body: list[bytes] = []
        self._excess_bytes = 0
        self._max_trailer_bytes = max_trailer_bytes
        self._max_trailer_fields = max_trailer_fields
        self._partial = bytearray()
        self._left = 0
        # Plain functions: a bound method would make a cycle, which only the collector can free.
        self._state = ChunkedDecoder._size
        self.complete = False
        self.trailer = b""
        """The trailer section, in canonical form."""

    def feed(self, data: bytes, position: int, body: list[bytes]) -> int:
        """Read on, at most to the end of the body, and append its content to `body`; return the position after.

        Raises `ChunkedError`.
        """
        self._body = body
        end = len(data)
        while position < end and not self.complete:
            position = self._state(self, data, position)
        # Whoever has the body may soon be done with it, while the next bytes are long in coming.
        self._body = []
        if len(body) > _MOST_PARTS:
            body[:] = [b"".join(body)]
        return position

    def _size(self, data: bytes, position: int) -> int:
        found = None if self._partial else _SIZE.match(data, position)
        while found is not None and found.end() - position <= _SIZE_BYTES:
            # A whole chunk at once: through the states small ones would cost more than twice as much.
            start = found.end()
            end = start + int(found[1], 16)
            if end == start or data[end : end + 2] != b"\r\n":
                break
            self._body.append(data[start:end])
            position = end + 2
            found = _SIZE.match(data, position)
        if found is not None:
            after = found.end()
            if after - position > _MAX_SIZE_LINE_BYTES + 2:
                raise ChunkedError("a chunk extension is too large")
        else:
            line, after = self._line(data, position)
            if line is None:
                return after
            found = _SIZE.fullmatch(line)
            if found is None:
                raise ChunkedError("the size of a chunk, or its extension, is malformed")
        self._left = int(found[1], 16)
        if self._left > _MAX_SIZE:
            raise ChunkedError("the size of a chunk is too large")
        if found.end() - found.start() > _SIZE_BYTES:
            self._count_extension(found.end() - found.start() - _SIZE_BYTES)
        self._state = ChunkedDecoder._data if self._left else ChunkedDecoder._trailer
        return after

    def _count_extension(self, size: int) -> None:
        # Counted against the content that they come with: a body of nothing but extensions would never end.
        self._excess_bytes = max(0, self._excess_bytes + size - self._left)
        if self._excess_bytes > self._max_trailer_bytes:
            raise ChunkedError("there is more in chunk extensions than in chunks")

    def _line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """A whole line with its CRLF, once it is there, and the position after it."""
        partial = self._partial
        before = len(partial)
        partial += data[position : position + _MAX_SIZE_LINE_BYTES + 2]
        found = partial.find(b"\r\n", max(0, before - 1))
        # Of the CRLF at its end, which does not count, the CR may be there.
        if (len(partial) - 1 if found < 0 else found) > _MAX_SIZE_LINE_BYTES:
            raise ChunkedError("a chunk extension is too large")
        if found < 0:
            _refuse_stray_control(partial, before)
            return None, len(data)
        line = bytes(partial[: found + 2])
        partial.clear()
        return line, position + len(line) - before

    def _data(self, data: bytes, position: int) -> int:
        end = position + self._left
        if position == 0 and end >= len(data):
            self._body.append(data)
        else:
            self._body.append(data[position:end])
        if end > len(data):
            self._left = end - len(data)
            return len(data)
        self._left = 2
        self._state = ChunkedDecoder._data_end
        return end

    def _data_end(self, data: bytes, position: int) -> int:
        expected = b"\r\n" if self._left == 2 else b"\n"
        piece = data[position : position + self._left]
        if not expected.startswith(piece):
            raise ChunkedError("a chunk is longer than its size")
        self._left -= len(piece)
        if self._left == 0:
            self._state = ChunkedDecoder._size
        return position + len(piece)

    def _trailer(self, data: bytes, position: int) -> int:
        partial = self._partial
        before = len(partial)
        if before == 0 and data.startswith(b"\r\n", position):
            self.complete = True
            return position + 2
        partial += data[position : position + self._max_trailer_bytes + 4]
        if partial.startswith(b"\r\n"):
            end = 2
        else:
            found = partial.find(b"\r\n\r\n", max(0, before - 3))
            end = found + 4
            # Of the empty line at its end, which does not count, all but one byte may be there.
            if (len(partial) - 3 if found < 0 else found) > self._max_trailer_bytes:
                raise ChunkedError("the trailer section is too large")
            if found < 0:
                _refuse_stray_control(partial, before)
                return len(data)
            if partial.count(b"\n", 0, found) >= self._max_trailer_fields:
                raise ChunkedError("the trailer section has too many fields")
            try:
                self.trailer = canonical(b"\r\n" + bytes(partial[:found]))
            except MalformedFieldError as error:
                raise ChunkedError(f"in the trailer section, {error}") from None
        self.complete = True
        return position + end - before


def _refuse_stray_control(partial: bytearray, before: int) -> None:
    """Of an unfinished line or section, of which the first `before` bytes were looked at earlier."""
    if has_stray_control(partial, max(0, before - 1)):
        raise ChunkedError("there is a stray control character")


def chunk_parts(body: list[bytes], *, last: bool, trailer: bytes = b"") -> list[bytes]:
    """The parts of a body in the chunked coding, with its end and the canonical trailer if it is the `last`."""
    size = sum(map(len, body))
    parts = [b"%x\r\n" % size, *body, b"\r\n"] if size else []
    if last:
        parts.append(b"0" + trailer + b"\r\n\r\n")
    return parts
