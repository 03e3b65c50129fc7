"""How a backend's response goes on to the client, or a tunnel begins in its place.

Part of an exchange, between `further_tries.py` and `exchange.py`.
"""

from __future__ import annotations

from time import perf_counter_ns

from weldr.proxy.chunked import chunk_parts
from weldr.proxy.dispatch import State
from weldr.proxy.flow import SMALL_BYTES, Hold
from weldr.proxy.further_tries import FurtherTries
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.routing.rules import Verdict
from weldr.proxy.tunnel import join
from weldr.proxy.upstream_connection import UpstreamConnection
from weldr.proxy.verdicts import UNASKED_SWITCH

_EMPTY_LINE = b"\r\n\r\n"

# An attribute of a class with a metaclass is slow to look up.
_WAITING = State.WAITING
_ENDED = State.ENDED


class Responding(FurtherTries):
    """See the module. What it has is set by the exchange."""

    __slots__ = (
        "_chunk_response",
        "_persistent",
        "_status",
        "response_bytes",
        "started_ns",
        "verdict",
    )

    _chunk_response: bool
    """Whether the body is put into chunks."""
    _persistent: bool
    """Whether the client's connection goes on."""
    _status: int
    """Of the response that the client gets; 0 before there is one."""
    response_bytes: int
    started_ns: int
    verdict: Verdict | None
    """What weldr answered itself, or why it cut the response off."""

    def _end(self) -> None:
        """Nothing of it is left."""
        raise NotImplementedError

    def upstream_received(self) -> None:
        """The reader has news."""
        upstream, service = self._upstream, self._service
        assert upstream is not None
        assert service is not None
        reader = upstream.reader
        parts: list[bytes] = []
        if reader.interim is not None:
            self._pass_on_interim(reader.take_interim(), parts)
        head = reader.head
        if head is None:
            if parts:
                self._client.write(parts)
            return
        if self.state is _WAITING:
            self._answered_ns = perf_counter_ns()
            if head.status == 101:
                self._switch(head, parts)
                return
            self._note_answer(head)
            if self._is_discarded(head):
                if reader.complete:
                    upstream.release(self._context.fleet.table.timeouts.upstream_idle_s)
                else:
                    upstream.abort()
                return
            self.state = State.RESPONDING
            if self._supervision is not None and not reader.complete:
                self._supervision.response_begins()
            parts += self._response_head(head)
        body = reader.take_body()
        self.response_bytes += sum(map(len, body))
        if self._chunk_response:
            trailer = reader.trailer if self.head.fields.wants_trailer else b""
            if trailer and self._ruled is not None:
                trailer = self._ruled.passable_lines(trailer)
            parts += chunk_parts(body, last=reader.complete, trailer=trailer)
        else:
            parts += body
        if parts:
            self._client.write(parts, small=reader.fed_bytes <= SMALL_BYTES)
        if reader.complete:
            self._complete(upstream)
        else:
            upstream.deadline_s = self._context.now_s() + service.read_s

    def upstream_answered(self, head: ResponseHead, body: bytes) -> bool:
        """This is the whole response; false if it needs more than to be passed on as it is."""
        request, client, upstream, pool = self.head, self._client, self._upstream, self._pool
        context = self._context
        if (
            self.state is not _WAITING
            or not self._request_complete
            or not request.version_11
            or not request.fields.persistent
            or client.ended
            or context.draining
            or (self._ruled is not None and self._ruled.edits_response)
            or upstream is None
            or pool is None
            or pool.speaks_10
            or head.status >= 500
            or self._supervision is not None
        ):
            return False
        pool.health.successes += 1
        if pool.latency is not None:
            self._note_latency(pool.latency)
        date = _EMPTY_LINE if head.fields.has_date else context.date + _EMPTY_LINE
        context.outbox.put(client.transport, b"".join((head.plain, self._cookie_line, date, body)))
        self._upstream = self._pool = None
        now_s = context.now_s()
        upstream.release_until(now_s + context.fleet.table.timeouts.upstream_idle_s)
        self.state = _ENDED
        context.counters.in_flight -= 1
        self.response_bytes = len(body)
        begun_ns = self._begun_ns
        backend_ns = perf_counter_ns() - begun_ns if begun_ns else None
        context.accounts.record(pool.way, self, head.status, backend_ns)
        pool.leave()
        client.await_next(now_s)
        return True

    def _pass_on_interim(self, heads: list[ResponseHead], parts: list[bytes]) -> None:
        # RFC 9110, section 15.2: an HTTP/1.0 client knows no 1xx.
        if self.head.version_11:
            ruled = self._ruled
            for head in heads:
                lines = head.fields.lines
                parts.append(head.interim(lines if ruled is None else ruled.passable_lines(lines)))

    def _response_head(self, head: ResponseHead) -> tuple[bytes, ...]:
        """The parts of the final head, after deciding how the body ends and whether the connection goes on."""
        request = self.head
        persistent = request.fields.persistent and self._request_complete and self._client.may_persist
        framing = b""
        trailer = False
        length = head.fields.content_length
        if length is not None and head.status != 204:
            framing = b"\r\nContent-Length: %d" % length
        elif head.has_body(request.method):
            if request.version_11:
                framing = b"\r\nTransfer-Encoding: chunked"
                self._chunk_response = True
                trailer = request.fields.wants_trailer
            else:
                persistent = False
        self._persistent = persistent
        self._status = head.status
        context = self._context
        connection = b"" if persistent and request.version_11 else self._connection_line(persistent)
        ruled = self._ruled
        lines = None if ruled is None else ruled.response_lines(head.fields.lines)
        connection = self._cookie_line + connection
        return head.final(framing, connection, context.date, trailer=trailer, lines=lines)

    def _connection_line(self, persistent: bool) -> bytes:
        if not persistent:
            return b"\r\nConnection: close"
        return b"" if self.head.version_11 else b"\r\nConnection: keep-alive"

    def _complete(self, upstream: UpstreamConnection) -> None:
        client = self._client
        if self._request_complete:
            self._upstream = None
            upstream.release(self._context.fleet.table.timeouts.upstream_idle_s)
        self._end()
        client.exchange_ended(persistent=self._persistent)

    def upstream_congested(self, congested: bool) -> None:
        """The backend does, or does not, fall behind in reading."""
        if congested:
            self._client.gate.hold(Hold.PEER_FULL)
        else:
            self._client.gate.release(Hold.PEER_FULL)

    def client_congested(self, congested: bool) -> None:
        """The client does, or does not, fall behind in reading."""
        if self._upstream is not None:
            if congested:
                self._upstream.gate.hold(Hold.PEER_FULL)
            else:
                self._upstream.gate.release(Hold.PEER_FULL)

    def _switch(self, head: ResponseHead, parts: list[bytes]) -> None:
        upstream, client, service = self._upstream, self._client, self._service
        assert upstream is not None
        assert service is not None
        is_asked = self._request_complete and head.switches_to(self.head.fields.upgrade)
        # A connection that has failed, and of which this is read after that, tells nobody of its end any more.
        if not is_asked or not upstream.usable:
            self._answer(UNASKED_SWITCH)
            return
        self.state = State.TUNNELLING
        self._context.counters.tunnels += 1
        self._status = head.status
        self._upstream = None
        self._note_answer(head)
        if self._supervision is not None:
            self._supervision.tunnel_begins()
        ruled, lines = self._ruled, head.fields.lines
        lines = lines if ruled is None else ruled.response_lines(lines)
        parts.append(head.interim(lines + self._cookie_line))
        client.write(parts)
        # From here on both are written past the outbox. What others have there waits for the end of the turn.
        self._context.outbox.flush_of(client.transport)
        self._context.outbox.flush_of(upstream.transport)
        backend_end, from_backend = upstream.become_tunnel(service.read_s)
        client_end, from_client = client.become_tunnel(service.read_s)
        join(client_end, backend_end, service.tunnel_idle_s, self._end)
        client_end.data_received(from_client)
        backend_end.data_received(from_backend)
        if self._supervision is not None:
            # It has left a place in the adaptive limit.
            self._wake_others()
