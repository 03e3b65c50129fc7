"""Bytes of a client's connection in, one request at a time out. No I/O.

The parser is never fed past the end of the request in progress, so that pipelined requests wait as unread
bytes and not as parsed heads. Where a request ends is not known before it is parsed; but it can only end at the
end of an empty line or, with a Content-Length, after that many bytes. So the input is fed in pieces that end
there.
"""

from __future__ import annotations

import re

import httptools

from weldr.proxy.fields import MAX_FIELDS, MAX_HEAD_BYTES
from weldr.proxy.request_head import MAX_REQUEST_LINE_BYTES, REQUEST_LINE, RequestHead, RequestRefusedError

_EMPTY_LINE = b"\r\n\r\n"
_MAX_UNPRODUCTIVE_BYTES = 64 * 1024
_OTHER_VERSION = re.compile(rb"(?:\r\n)*[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/(?!1\.[01])\d\.\d")


class RequestReader:
    """Reads the requests of one connection, each after a `reset`."""

    __slots__ = (
        "_body",
        "_default_host",
        "_fields",
        "_head_bytes",
        "_left",
        "_parser",
        "_priming",
        "_productive",
        "_tail",
        "_unproductive_bytes",
        "complete",
        "head",
        "started",
    )

    def __init__(self, default_host: bytes) -> None:
        """`default_host` is what an HTTP/1.0 request without a host means."""
        self._default_host = default_host
        self._parser = httptools.HttpRequestParser(self)
        self._priming = False
        self.reset()

    def reset(self) -> None:
        """Make ready for the next request."""
        self.head: RequestHead | None = None
        """As soon as it is complete and found good."""
        self.started = False
        """Whether any byte of the request has come."""
        self.complete = False
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._head_bytes = b""
        self._left: int | None = None
        self._tail = b""
        self._productive = False
        self._unproductive_bytes = 0

    @property
    def method_is_head(self) -> bool:
        """Whether it is, or begins like, a HEAD request: the answer to that has no body."""
        return self._head_bytes.lstrip(b"\r\n").startswith(b"HEAD ")

    def take_body(self) -> list[bytes]:
        """What has come of the body since the last call."""
        body, self._body = self._body, []
        return body

    def feed(self, data: bytes, position: int) -> int:
        """Read on at `position`, at most to the end of the request; return the position after it.

        Raises `RequestRefusedError`, after which the connection cannot be read any further.
        """
        self.started = True
        end = len(data)
        while position < end and not self.complete:
            stop = self._piece_end(data, position)
            piece = data if stop - position == end else data[position:stop]
            if self.head is None:
                self._feed_head(piece)
            else:
                self._feed_body(piece)
            position = stop
        return position

    def _piece_end(self, data: bytes, position: int) -> int:
        if self._left is not None:
            return min(len(data), position + self._left)
        tail = self._tail
        if tail:
            # The empty line may have begun in what was fed before.
            found = (tail + data[position : position + 3]).find(_EMPTY_LINE)
            if found >= 0:
                self._tail = b""
                return position + found + len(_EMPTY_LINE) - len(tail)
        found = data.find(_EMPTY_LINE, position)
        if found >= 0:
            self._tail = b""
            return found + len(_EMPTY_LINE)
        self._tail = (tail + data[max(position, len(data) - 3) :])[-3:]
        return len(data)

    def _feed_head(self, piece: bytes) -> None:
        head_bytes = self._head_bytes = self._head_bytes + piece if self._head_bytes else piece
        too_large = len(head_bytes) > MAX_HEAD_BYTES
        if too_large or (len(head_bytes) > MAX_REQUEST_LINE_BYTES and _line_bytes(head_bytes) is None):
            raise _too_large(head_bytes)
        self._parse(piece)
        if len(self._fields) > MAX_FIELDS:
            raise RequestRefusedError(431, f"the request has more than {MAX_FIELDS} fields")

    def _feed_body(self, piece: bytes) -> None:
        self._productive = False
        self._parse(piece)
        if self._left is not None:
            self._left -= len(piece)
        if self._productive:
            self._unproductive_bytes = 0
            return
        # Chunk extensions and trailer fields, which the parser collects, have no other limit.
        self._unproductive_bytes += len(piece)
        if self._unproductive_bytes > _MAX_UNPRODUCTIVE_BYTES:
            raise RequestRefusedError(400, "the trailer or a chunk extension is too large")

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # The parser believes that another protocol follows. That is not decided yet, and whatever comes
            # next is for a new parser.
            self._change_parser()
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            if _OTHER_VERSION.match(self._head_bytes) and self.head is None:
                raise RequestRefusedError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here") from None
            raise RequestRefusedError(400, f"the request is malformed: {error}") from None

    def _change_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        head = self.head
        if head is None or not head.has_body:
            return
        # The parser has skipped the body of a request with an Upgrade field: the new one is brought to where
        # that body begins, by a head with the same framing.
        framing = (
            b"Transfer-Encoding: chunked"
            if head.chunked
            else b"Content-Length: %d" % (head.content_length or 0)
        )
        self.complete = False
        self._priming = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        self._priming = False

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._priming:
            return
        line = REQUEST_LINE.match(self._head_bytes)
        if line is None:
            if _OTHER_VERSION.match(self._head_bytes):
                raise RequestRefusedError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
            raise RequestRefusedError(400, "the request line is malformed")
        if line.end() > MAX_REQUEST_LINE_BYTES:
            raise _too_large(self._head_bytes)
        method, target, version = line.groups()
        head = RequestHead(method, target, version_11=version == b"1.1")
        head.read(self._fields, self._default_host)
        self.head = head
        if head.content_length:
            self._left = head.content_length

    def on_body(self, body: bytes) -> None:
        self._productive = True
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


def _line_bytes(head_bytes: bytes) -> int | None:
    """The length of the request line, if it is complete."""
    start = 0
    while head_bytes.startswith(b"\r\n", start):
        start += 2
    end = head_bytes.find(b"\r\n", start)
    return None if end < 0 else end - start


def _too_large(head_bytes: bytes) -> RequestRefusedError:
    line_bytes = _line_bytes(head_bytes)
    if line_bytes is None or line_bytes > MAX_REQUEST_LINE_BYTES:
        return RequestRefusedError(414, f"the request line has more than {MAX_REQUEST_LINE_BYTES} bytes")
    return RequestRefusedError(431, f"the head of the request has more than {MAX_HEAD_BYTES} bytes")
