"""A client and a backend as the peers of weldr's transports: what they have sent, got and are still to send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import h11

from tests.fuzz.reading import Request, read_reply
from tests.fuzz.scenario import Answer, Client, Finish, Start, pieces
from tests.fuzz.transport import MemoryTransport


class ClientSide:
    """A client. `sent` is what weldr has really been given."""

    def __init__(self, number: int, plan: Client, transport: MemoryTransport) -> None:
        self.number = number
        self.transport = transport
        self.sent = bytearray()
        self.aborted = False
        self._left = pieces(plan.stream, plan.cuts)[::-1]

    @property
    def can_send(self) -> bool:
        return bool(self._left) and self.transport.takes

    def send(self) -> None:
        """The next piece."""
        data = self._left.pop()
        self.sent += data
        self.transport.deliver(data)

    def end(self) -> None:
        """Shut the own side, whatever is left to send."""
        self._left.clear()
        self.transport.deliver_eof()

    def abort(self) -> None:
        """Cut the connection."""
        self.aborted = True
        self._left.clear()
        self.transport.deliver_reset()


@dataclass
class Forwarded:
    """A request that weldr sent on a connection to a backend, and what it was given for it."""

    request: h11.Request
    link: Link
    head_end: int
    """Where its head ends among all that weldr sent on this connection."""
    answer: Answer
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    end: int | None = None
    """Where it ends itself; `None` while it is not complete."""
    answered: bytearray = field(default_factory=bytearray)
    """All that the backend sent from its begin until the next one's."""
    ended: bool = False
    """Whether the backend shut its side after that."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for each, value in self.request.headers if each == name]

    @property
    def head(self) -> Request:
        """The head by itself."""
        event = self.request
        return Request(
            event.http_version, list(event.headers), b"", True, method=event.method, target=event.target
        )

    @property
    def upgrade(self) -> bytes | None:
        return b", ".join(self.values(b"upgrade")) or None

    @property
    def client(self) -> int:
        """The number of the client, by weldr's word on its address."""
        return int(self.values(b"x-forwarded-for")[-1].rpartition(b".")[2])

    @property
    def switched(self) -> bool:
        if self.upgrade is None or not self.answered:
            return False
        return read_reply(
            bytes(self.answered), self.request.method, self.upgrade, ended=False, tolerant=True
        ).switched


class Link:
    """A connection from weldr to a backend."""

    def __init__(
        self,
        transport: MemoryTransport,
        on_request: Callable[[Forwarded], None],
        next_answer: Callable[[], Answer],
        registration: int,
    ) -> None:
        self.transport = transport
        self.backend = (transport.get_extra_info("peername"), registration)
        """Its address, and for which time it has been in the catalog: one that returns is another."""
        self.requests: list[Forwarded] = []
        self.malformed: str | None = None
        """What h11 says of the stream."""
        self.tunnelled = bytearray()
        """What weldr sent after a change of the protocol."""
        self.unasked = False
        """Whether the backend has sent anything before the first request."""
        self._on_request = on_request
        self._next_answer = next_answer
        self.http_bytes = 0
        """How much weldr sent before a change of the protocol."""
        self._parser = _request_parser()
        self._in_message = False
        self._tunnel = False
        self._answered = 0
        self._left: list[bytes] = []
        self._finish = Finish.KEEP
        transport.on_written = self._read

    # What weldr sends.

    def _read(self, data: bytes) -> None:
        if not self._tunnel and not self._in_message:
            self._tunnel = bool(self.requests) and self.requests[-1].switched
        if self._tunnel:
            self.tunnelled += data
            return
        self.http_bytes += len(data)
        try:
            self._parser.receive_data(data)
            self._read_events()
        except h11.RemoteProtocolError as error:
            self.malformed = self.malformed or f"{error}: {data!r}"

    def _read_events(self) -> None:
        while True:
            event = self._parser.next_event()
            if isinstance(event, h11.Request):
                self._in_message = True
                head_end = self.http_bytes - len(self._parser.trailing_data[0])
                request = Forwarded(event, self, head_end, self._next_answer())
                self.requests.append(request)
                self._on_request(request)
            elif isinstance(event, h11.Data):
                self.requests[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                rest = self._parser.trailing_data[0]
                self._in_message = False
                self.requests[-1].trailers = list(event.headers)
                self.requests[-1].end = self.http_bytes - len(rest)
                self._parser = _request_parser()
                if not rest:
                    return
                self._parser.receive_data(rest)
            else:
                return

    # What the backend sends.

    @property
    def can_answer(self) -> bool:
        """Whether the backend has a next piece to send, or an end to make."""
        if not self.transport.takes:
            return False
        if self._left or self._finish is not Finish.KEEP:
            return True
        if self._answered == len(self.requests):
            return False
        next_one = self.requests[self._answered]
        needed = next_one.head_end if next_one.answer.start is Start.HEAD else next_one.end
        return needed is not None and len(self.transport.received) >= needed

    def answer(self) -> None:
        """The next piece, or the end after the last one."""
        if not self._left and self._finish is Finish.KEEP:
            self._begin(self.requests[self._answered])
        if self._left:
            self.send(self._left.pop())
        elif self._finish is Finish.FIN:
            self.end()
        elif self._finish is Finish.RST:
            self.abort()

    def _begin(self, request: Forwarded) -> None:
        self._answered += 1
        answer = request.answer
        bodiless = answer.honest and request.request.method == b"HEAD"
        self._left = pieces(answer.head + (b"" if bodiless else answer.body), answer.cuts)[::-1]
        self._finish = answer.finish

    def send(self, data: bytes) -> None:
        """Send, asked or not."""
        if self.requests:
            self.requests[-1].answered += data
        else:
            self.unasked = True
        self.transport.deliver(data)

    def end(self) -> None:
        """Shut the backend's side."""
        self._drop()
        if self.requests:
            self.requests[-1].ended = True
        self.transport.deliver_eof()

    def abort(self) -> None:
        """Cut the connection."""
        self._drop()
        self.transport.deliver_reset()

    def _drop(self) -> None:
        self._left.clear()
        self._finish = Finish.KEEP


def _request_parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
