"""Bytes of a client's connection in, one request at a time out. No I/O.

A reader stops exactly where a request ends, so that a pipelined one stays unread until its turn.
"""

from __future__ import annotations

from weldr.model.values import Limits
from weldr.proxy.chunked import ChunkedDecoder, ChunkedError
from weldr.proxy.fields import MAX_REMEMBERED_SECTION_BYTES
from weldr.proxy.request_fields import RequestFields, RequestRefusedError
from weldr.proxy.request_head import (
    PLAIN_LINE,
    REFUSED_METHODS,
    RequestHead,
    check_incomplete,
    read_head,
)

_CRLF = b"\r\n"
_EMPTY_LINE = b"\r\n\r\n"
_MOST_BEFORE_METHOD_BYTES = 64
_NOTHING_YET = (b"", b"\r")

_new_head = RequestHead.__new__


class RequestReader:
    """Reads the requests of one connection, each after a `reset`."""

    __slots__ = (
        "_body",
        "_chunked",
        "_default_host",
        "_left",
        "_limits",
        "_partial",
        "_plain_ending",
        "_plain_fields",
        "_plain_host",
        "_plain_line_bytes",
        "complete",
        "head",
        "started",
    )

    def __init__(self, default_host: bytes, limits: Limits) -> None:
        """`default_host` is what an HTTP/1.0 request without a host means."""
        self._default_host = default_host
        self.adopt(limits)
        self._partial = bytearray()
        self._chunked: ChunkedDecoder | None = None
        self.reset()

    def adopt(self, limits: Limits) -> None:
        """Go by these limits from the next request on."""
        self._limits = limits
        self.forget()

    def forget(self) -> None:
        """Hold no memory for the sake of speed: it may take long until the next request comes."""
        self._plain_fields: RequestFields | None = None
        """Those of the last request, if it had no body and they are within the limits, ..."""
        self._plain_ending = b""
        """... the bytes that they were, to the end of the head, ..."""
        self._plain_host = b""
        """... the host among them, ..."""
        self._plain_line_bytes = 0
        """... and how long a request line before them may be."""

    def reset(self) -> None:
        """Make ready for the next request."""
        self.head: RequestHead | None = None
        """As soon as it is complete and found good."""
        self.started = False
        """Whether any byte of the request has come; empty lines before it are none of it."""
        self.complete = False
        self._left = 0
        self._body: list[bytes] = []

    @property
    def method_is_head(self) -> bool:
        """Whether it is, or begins like, a HEAD request: the answer to that has no body."""
        if self.head is not None:
            return self.head.method == b"HEAD"
        return self._partial.startswith(b"HEAD ")

    def take_body(self) -> list[bytes]:
        """What has come of the body since the last call: from now on the caller's list."""
        body, self._body = self._body, []
        return body

    def whole(self, data: bytes) -> RequestHead | None:
        """The next request, if it is all of `data` and ends like the one before it; it is complete then.

        Most are like that: the fields, which are the greater part of a head, are those of the request before.
        `None` says nothing about `data`: it is to be fed.
        """
        fields, ending = self._plain_fields, self._plain_ending
        line_bytes = len(data) - len(ending)
        if fields is None or line_bytes > self._plain_line_bytes or not data.endswith(ending):
            return None
        line = PLAIN_LINE.fullmatch(data, 0, line_bytes)
        if line is None:
            return None
        method, target = line.groups()
        if method in REFUSED_METHODS:
            return None
        # As `read_head` makes it, without the steps that change nothing here.
        head = self.head = _new_head(RequestHead)
        head.method = method
        head.target = target
        head.version_11 = True
        head.fields = fields
        head.host = self._plain_host
        head.route_host = fields.route_host
        head.max_forwards_line = b""
        self.started = self.complete = True
        return head

    def feed(self, data: bytes, position: int) -> int:
        """Read on at `position`, at most to the end of the request; return the position after it.

        Raises `RequestRefusedError`, after which the connection cannot be read any further.
        """
        if self.head is None:
            position = self._feed_head(data, position)
            self.started = self.head is not None or self._partial not in _NOTHING_YET
        if self._left:
            return self._feed_counted(data, position)
        if self._chunked is not None:
            return self._feed_chunked(self._chunked, data, position)
        return position

    def _feed_head(self, data: bytes, position: int) -> int:
        if self._partial:
            return self._feed_partial(data, position)
        while data.startswith(_CRLF, position):
            # RFC 9112, section 2.2: empty lines before a request are ignored.
            position += 2
        try:
            found = None
            if position < len(data) and (position < len(data) - 1 or not data.endswith(b"\r")):
                found = read_head(data, position, self._limits, self._default_host)
        except RequestRefusedError:
            # The answer depends on whether it began like a HEAD request.
            self._partial += data[position : position + _MOST_BEFORE_METHOD_BYTES]
            raise
        if found is None:
            self._partial += data[position:]
            return len(data)
        head, position = found
        self._begin(head)
        return position

    def _feed_partial(self, data: bytes, position: int) -> int:
        """Go on with a head that comes in pieces."""
        partial, limits = self._partial, self._limits
        before = len(partial)
        piece = data[position : position + limits.head_bytes + len(_EMPTY_LINE)]
        partial += piece
        while partial.startswith(_CRLF):
            del partial[:2]
            before -= 2
        if partial.find(_EMPTY_LINE, max(0, before - 3)) < 0:
            # Without looking at all of it again with every byte that comes.
            if partial and partial != b"\r":
                check_incomplete(partial, 0, limits, max(0, before - 1))
            # Not all of the data, if the piece was nothing but empty lines.
            return position + len(piece)
        found = read_head(bytes(partial), 0, limits, self._default_host)
        assert found is not None
        head, end = found
        partial.clear()
        self._begin(head)
        return position + end - before

    def _begin(self, head: RequestHead) -> None:
        self.head = head
        fields = head.fields
        if self._plain_fields is not None:
            self.forget()
        if fields.chunked:
            self._chunked = ChunkedDecoder(self._limits.head_bytes, self._limits.head_fields)
        elif fields.content_length:
            self._left = fields.content_length
        else:
            self.complete = True
            if head.version_11:
                self._remember(fields)

    def _remember(self, fields: RequestFields) -> None:
        """For `whole`, unless something in these fields asks for a closer look."""
        if len(fields.ending) > MAX_REMEMBERED_SECTION_BYTES or fields.host is None:
            return
        if fields.max_forwards is None:
            limits, ending = self._limits, fields.ending
            self._plain_fields, self._plain_ending, self._plain_host = fields, ending, fields.host
            rest_bytes = len(ending) - len(_EMPTY_LINE)
            self._plain_line_bytes = min(limits.request_line_bytes, limits.head_bytes - rest_bytes)

    def _feed_counted(self, data: bytes, position: int) -> int:
        size = len(data) - position
        if size == 0:
            return position
        if size > self._left:
            size = self._left
        self._body.append(data if size == len(data) else data[position : position + size])
        self._left -= size
        self.complete = self._left == 0
        return position + size

    def _feed_chunked(self, decoder: ChunkedDecoder, data: bytes, position: int) -> int:
        try:
            position = decoder.feed(data, position, self._body)
        except ChunkedError as error:
            raise RequestRefusedError(400, f"in the body of the request, {error}") from None
        if decoder.complete:
            # Its trailer section is dropped: nobody can tell what a backend would make of it.
            self._chunked = None
            self.complete = True
        return position
