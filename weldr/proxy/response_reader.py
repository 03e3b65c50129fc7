"""Bytes of a backend's connection in, one response at a time out. No I/O.

A response is `complete` only if its framing says so; whatever comes after that makes the connection unfit for
another request.
"""

from __future__ import annotations

from weldr.model.values import Limits
from weldr.proxy.chunked import ChunkedDecoder, ChunkedError
from weldr.proxy.fields import MAX_REMEMBERED_SECTION_BYTES
from weldr.proxy.response_fields import ResponseInvalidError, passable_trailer
from weldr.proxy.response_head import ResponseHead, check_incomplete, read_head, remembered_head

_EMPTY_LINE = b"\r\n\r\n"
_NO_LIMITS = Limits()


class ResponseReader:
    """Reads the responses of one connection, each after its request's `method` was set and a `begin`."""

    __slots__ = (
        "_body",
        "_chunked",
        "_last_plain",
        "_left",
        "_partial",
        "_to_end",
        "complete",
        "excess",
        "fed_bytes",
        "head",
        "interim",
        "limits",
        "method",
        "started",
        "trailer",
        "tunnel_data",
    )

    def __init__(self) -> None:
        self._partial = bytearray()
        self.method = b""
        """Of the request."""
        self.limits = _NO_LIMITS
        self._last_plain: ResponseHead | None = None
        """The head of the last response that came whole: often the next one is the same."""
        self._reset()

    def begin(self, limits: Limits) -> None:
        """Make ready for the response to another request, within these limits."""
        if self.started:
            self._reset()
        if limits is not self.limits:
            self.limits = limits
            self._last_plain = None

    def _reset(self) -> None:
        self.head: ResponseHead | None = None
        """The final one, as soon as it is complete and found good; a 101 is final too."""
        self.interim: list[ResponseHead] | None = None
        """The 1xx heads that have come and were not taken yet, if any."""
        self.started = False
        """Whether any byte has come."""
        self.fed_bytes = 0
        """How much came at the last `feed`: what was made of it is hardly more."""
        self.complete = False
        self.excess = False
        """Whether more came than the response: nobody asked for it."""
        self.trailer = b""
        """Of the trailer section what may be passed on, canonical."""
        self.tunnel_data = b""
        """What came after a 101."""
        self._left = 0
        self._to_end = False
        self._chunked: ChunkedDecoder | None = None
        self._body: list[bytes] = []

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this response."""
        head = self.head
        return (
            self.complete
            and not self.excess
            and not self._to_end
            and head is not None
            and head.fields.persistent
            and not head.promises_too_much
        )

    def take_interim(self) -> list[ResponseHead]:
        """The 1xx heads that have come since the last call."""
        interim, self.interim = self.interim or [], None
        return interim

    def take_body(self) -> list[bytes]:
        """What has come of the body since the last call: from now on the caller's list."""
        body, self._body = self._body, []
        return body

    def whole(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Head and body of the response, if it is all of `data` and nothing about it asks for a closer look.

        Then the reader is as before, and the connection can carry another request. `None` says nothing about
        `data`: it is to be fed.

        Raises `ResponseInvalidError`, as `feed` does.
        """
        if self.started or self.method == b"HEAD":
            return None
        head = self._last_plain
        if head is None or not data.startswith(head.came):
            head = self._plain(data)
            if head is None:
                return None
        size = len(head.came)
        return (head, data[size:]) if len(data) - size == head.plain_body_bytes else None

    def _plain(self, data: bytes) -> ResponseHead | None:
        """The head of a response, if it is complete and may be `plain` under the limits."""
        end = data.find(_EMPTY_LINE)
        if not 0 < end <= MAX_REMEMBERED_SECTION_BYTES:
            return None
        limits, head = self.limits, remembered_head(data[:end])
        if head.plain_body_bytes < 0 or head.fields.count > limits.head_fields or end > limits.head_bytes:
            return None
        self._last_plain = head
        return head

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises `ResponseInvalidError`, after which the connection cannot be read any further.
        """
        self.started = True
        self.fed_bytes = size = len(data)
        position = 0
        while self.head is None:
            if self._partial:
                position = self._feed_partial(data, position)
            else:
                found = read_head(data, position, self.limits)
                if found is None:
                    self._partial += data[position:]
                    return
                head, position = found
                self._begin(head)
            if position == size:
                return
        if self.head.status == 101:
            self.tunnel_data += data[position:]
            return
        if not self.complete:
            position = self._feed_body(data, position)
        if position < size:
            self.excess = True

    def _feed_partial(self, data: bytes, position: int) -> int:
        """Go on with a head that comes in pieces."""
        partial, limits = self._partial, self.limits
        before = len(partial)
        partial += data[position : position + limits.head_bytes + len(_EMPTY_LINE)]
        if partial.find(_EMPTY_LINE, max(0, before - 3)) < 0:
            check_incomplete(partial, 0, limits, max(0, before - 1))
            return len(data)
        found = read_head(bytes(partial), 0, limits)
        assert found is not None
        head, end = found
        partial.clear()
        self._begin(head)
        return position + end - before

    def _begin(self, head: ResponseHead) -> None:
        if head.status < 200 and head.status != 101:
            if self.interim is None:
                self.interim = []
            self.interim.append(head)
            return
        self.head = head
        if not head.has_body(self.method):
            self.complete = head.status != 101
        elif head.fields.chunked:
            self._chunked = ChunkedDecoder(self.limits.head_bytes, self.limits.head_fields)
        elif head.fields.content_length is None:
            self._to_end = True
        else:
            self._left = head.fields.content_length
            self.complete = self._left == 0

    def _feed_body(self, data: bytes, position: int) -> int:
        if self._chunked is not None:
            return self._feed_chunked(self._chunked, data, position)
        size = len(data) - position
        if not self._to_end:
            if size > self._left:
                size = self._left
            self._left -= size
            self.complete = self._left == 0
        if size:
            self._body.append(data if size == len(data) else data[position : position + size])
        return position + size

    def _feed_chunked(self, decoder: ChunkedDecoder, data: bytes, position: int) -> int:
        try:
            position = decoder.feed(data, position, self._body)
        except ChunkedError as error:
            raise ResponseInvalidError("http_protocol_error", f"in the body of the response, {error}") from None
        if decoder.complete:
            # It holds the last of the body, and the connection may be kept for long.
            self._chunked = None
            if decoder.trailer:
                assert self.head is not None
                self.trailer = passable_trailer(decoder.trailer, self.head.fields.connection)
            self.complete = True
        return position

    def end(self) -> None:
        """The backend has closed its side. That completes a body without any other end.

        Raises `ResponseInvalidError` if the response is not complete.
        """
        if self.complete:
            return
        if not self._to_end:
            raise ResponseInvalidError(
                "http_response_incomplete", "the backend closed before the response was complete"
            )
        self.complete = True
