"""Bytes of a backend's connection in, one response at a time out. No I/O.

The parser does not know which request it reads the response to, so what depends on the request (HEAD) is
decided here. A response is `complete` only if its framing says so; whatever comes after that makes the
connection unfit for another request.
"""

from __future__ import annotations

import httptools

from weldr.proxy.fields import MAX_FIELDS, MAX_HEAD_BYTES
from weldr.proxy.response_head import ResponseHead, ResponseInvalidError

_MAX_UNPRODUCTIVE_BYTES = 64 * 1024


class ResponseReader:
    """Reads the responses of one connection, each after a `reset`."""

    __slots__ = (
        "_body",
        "_fields",
        "_method",
        "_parser",
        "_productive",
        "_reason",
        "_unproductive_bytes",
        "complete",
        "excess",
        "head",
        "interim",
        "started",
        "tunnel_data",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._method = b""
        self.reset(b"")

    def reset(self, method: bytes) -> None:
        """Make ready for the response to a request with this method."""
        if self._method == b"HEAD":
            # The parser may still wait for the body that the response to a HEAD does not have.
            self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self.head: ResponseHead | None = None
        """The final one, as soon as it is complete and found good; a 101 is final too."""
        self.interim: list[ResponseHead] = []
        """The 1xx heads that have come and were not taken yet."""
        self.started = False
        """Whether any byte has come."""
        self.complete = False
        self.excess = False
        """Whether more came than the response: nobody asked for it."""
        self.tunnel_data = b""
        """What came after a 101."""
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._reason = b""
        self._productive = False
        self._unproductive_bytes = 0

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this response."""
        head = self.head
        return (
            self.complete
            and not self.excess
            and head is not None
            and head.persistent
            and (head.chunked or head.content_length is not None or not head.has_body(self._method))
        )

    def take_interim(self) -> list[ResponseHead]:
        """The 1xx heads that have come since the last call."""
        interim, self.interim = self.interim, []
        return interim

    def take_body(self) -> list[bytes]:
        """What has come of the body since the last call."""
        body, self._body = self._body, []
        return body

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises `ResponseInvalidError`, after which the connection cannot be read any further.
        """
        self.started = True
        self._productive = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.tunnel_data = data[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except httptools.HttpParserError as error:
            if not self.complete:
                raise ResponseInvalidError(
                    "http_protocol_error", f"the response is malformed: {error}"
                ) from None
            self.excess = True
        if not self._productive:
            self._limit(len(data))

    def _limit(self, size: int) -> None:
        """The parser has no limits of its own on heads, trailers and chunk extensions."""
        self._unproductive_bytes += size
        if self._unproductive_bytes > _MAX_UNPRODUCTIVE_BYTES or len(self._fields) > MAX_FIELDS:
            if self.head is None:
                raise ResponseInvalidError(
                    "http_response_header_section_size",
                    f"the head of the response has more than {MAX_HEAD_BYTES} bytes or {MAX_FIELDS} fields",
                )
            raise ResponseInvalidError(
                "http_response_trailer_section_size", "the trailer or a chunk extension is too large"
            )

    def end(self) -> None:
        """The backend has closed its side. That completes a body without any other end.

        Raises `ResponseInvalidError` if the response is not complete.
        """
        head = self.head
        if self.complete:
            return
        if head is None or head.chunked or head.content_length is not None:
            raise ResponseInvalidError(
                "http_response_incomplete", "the backend closed before the response was complete"
            )
        self.complete = True

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.complete:
            self.excess = True
        self._fields = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        parser = self._parser
        head = ResponseHead(parser.get_status_code(), self._reason, parser.get_http_version())
        head.read(self._fields)
        self._productive = True
        self._unproductive_bytes = 0
        if head.status < 200 and head.status != 101:
            self.interim.append(head)
            return
        self.head = head
        if not head.has_body(self._method):
            self.complete = True

    def on_chunk_header(self) -> None:
        if self.complete:
            self.excess = True

    def on_body(self, body: bytes) -> None:
        if self.complete:
            self.excess = True
            return
        self._productive = True
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self.head is not None:
            self.complete = True
