"""Streams of requests and responses, as h11 reads them.

A message is `strict` as far as the grammar of RFC 9112 has it so too: h11 alone takes more than weldr may.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import h11

from tests.fuzz.grammar import decode_chunked, is_request_head, is_response_head

Fields = list[tuple[bytes, bytes]]
EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")
_LIMIT_BYTES = 1 << 24
_MOST_FRAMING_BYTES = 4000


@dataclass
class Message:
    """What requests and responses have in common. Field names are in lower case."""

    version: bytes
    fields: Fields
    head: bytes
    strict_head: bool
    body: bytes = b""
    complete: bool = False
    strict: bool = False
    """For a complete one."""
    usual: bool = True
    """Whether h11 reads all of it, and its chunks have no long extensions: those may be refused."""
    trailers: Fields = field(default_factory=list)

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.fields if each == name]

    def options(self) -> set[bytes]:
        """Those of `Connection`, in lower case."""
        return {
            option.strip(b" \t") for value in self.values(b"connection") for option in value.lower().split(b",")
        } - {b""}


@dataclass
class Request(Message):
    """A request, complete or not."""

    method: bytes = b""
    target: bytes = b""


@dataclass
class Response(Message):
    """A response, complete or not."""

    status: int = 0


@dataclass
class Requests:
    """What a stream holds: all requests whose head is there, and what follows the last complete one."""

    messages: list[Request]
    rest: bytes
    """Not read, since it is no request or not yet one."""


def read_requests(stream: bytes) -> Requests:
    """Every request in a stream that goes to a server."""
    found: list[Request] = []
    while True:
        # RFC 9112, section 2.2: empty lines before a request are ignored.
        request, rest = _read_request(EMPTY_LINES.sub(b"", stream))
        if request is None:
            return Requests(found, stream)
        found.append(request)
        if not request.complete:
            return Requests(found, b"")
        stream = rest


def _read_request(stream: bytes) -> tuple[Request | None, bytes]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_LIMIT_BYTES)
    connection.receive_data(stream)
    request: Request | None = None
    head_bytes = 0
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head_bytes = len(stream) - len(connection.trailing_data[0])
                head = stream[:head_bytes]
                request = Request(
                    version=event.http_version,
                    fields=list(event.headers),
                    head=head,
                    strict_head=is_request_head(head),
                    method=event.method,
                    target=event.target,
                )
            elif isinstance(event, h11.Data):
                assert request is not None
                request.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                request.complete = True
                request.trailers = list(event.headers)
                rest = connection.trailing_data[0]
                chunked = bool(request.values(b"transfer-encoding"))
                raw_body = stream[head_bytes : len(stream) - len(rest)]
                request.strict = request.strict_head and (
                    not chunked or decode_chunked(raw_body).length == len(raw_body)
                )
                request.usual = len(raw_body) - len(request.body) < _MOST_FRAMING_BYTES
                return request, rest
            else:
                return request, b""
    except h11.RemoteProtocolError:
        if request is None:
            return None, b""
        return request, _decode_body(request, stream[head_bytes:])


def _decode_body(message: Message, data: bytes) -> bytes:
    """Read a body that h11 does not take, since it knows no space before a chunk extension; what follows it."""
    if message.values(b"transfer-encoding") != [b"chunked"]:
        return b""
    chunked = decode_chunked(data)
    message.usual = False
    message.body, message.trailers = chunked.body, chunked.trailers
    message.complete = chunked.length is not None
    message.strict = message.complete and message.strict_head
    return data[chunked.length or len(data) :]


@dataclass
class Reply:
    """One final response with the interim ones before it, and what follows it in the stream."""

    interim: list[Response]
    final: Response | None
    rest: bytes
    malformed: bool = False
    switched: bool = False
    """Whether `rest` is another protocol's."""


def read_reply(
    stream: bytes, method: bytes, upgrade: bytes | None, *, ended: bool, tolerant: bool = False
) -> Reply:
    """The reply to a request with this method, and this offer of another protocol. `ended`: nothing follows.

    `tolerant` is for what backends send: empty lines before a head, and whatever the reason phrase holds, are
    passed over. That is harmless, and parsers differ about it.
    """
    if tolerant:
        stream = _REASON.sub(rb"\1 ", stream.lstrip(b"\r\n"), count=1)
    connection = _client_connection(method, upgrade)
    connection.receive_data(stream)
    if ended:
        connection.receive_data(b"")
    reply = Reply([], None, stream)
    head_bytes = 0
    try:
        while True:
            event = connection.next_event()
            reply.rest = connection.trailing_data[0]
            if isinstance(event, (h11.InformationalResponse, h11.Response)):
                head_bytes = len(stream) - len(reply.rest)
                response = _response(event, stream[:head_bytes])
                if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                    following = read_reply(reply.rest, method, upgrade, ended=ended, tolerant=tolerant)
                    following.interim.insert(0, response)
                    return following
                reply.final = response
                if event.status_code == 101:
                    response.complete = response.strict = reply.switched = True
                    return reply
            elif isinstance(event, h11.Data):
                assert reply.final is not None
                reply.final.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert reply.final is not None
                raw_body = stream[head_bytes : len(stream) - len(reply.rest)]
                _completed(reply.final, raw_body, list(event.headers))
                return reply
            else:
                return reply
    except h11.RemoteProtocolError:
        reply.malformed = True
        if reply.final is not None:
            reply.rest = _decode_body(reply.final, stream[head_bytes:])
            reply.malformed = not reply.final.complete
        return reply


_REASON = re.compile(rb"\A(HTTP/1\.[01] [0-9]{3})(?: [^\r\n]*)?(?=\r?\n)")


def _client_connection(method: bytes, upgrade: bytes | None) -> h11.Connection:
    """One that has sent such a request."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LIMIT_BYTES)
    fields = [(b"Host", b"a")]
    if upgrade is not None:
        fields += [(b"Connection", b"upgrade"), (b"Upgrade", upgrade)]
    connection.send(h11.Request(method=method, target=b"/", headers=fields))
    connection.send(h11.EndOfMessage())
    return connection


def _completed(response: Response, raw_body: bytes, trailers: Fields) -> None:
    chunked = bool(response.values(b"transfer-encoding")) and raw_body != b""
    response.complete = True
    response.trailers = trailers
    response.strict = response.strict_head and (not chunked or decode_chunked(raw_body).length == len(raw_body))


def _response(event: h11.InformationalResponse | h11.Response, head: bytes) -> Response:
    return Response(
        version=event.http_version,
        fields=list(event.headers),
        head=head,
        strict_head=is_response_head(head),
        status=event.status_code,
    )
