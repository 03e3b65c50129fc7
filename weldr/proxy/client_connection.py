"""A client's connection: requests in, one exchange at a time, responses out in the same order.

| phase     | meaning                                                       |
|-----------|---------------------------------------------------------------|
| open      | requests are read; with an exchange, the next ones wait unread |
| lingering | the last response is sent and our side shut; what still comes is |
|           | dropped, since closing on unread input would reset the connection |
|           | and could destroy the response (RFC 9112, section 9.6)        |
| closing   | closed, but not everything is sent yet                        |
"""

from __future__ import annotations

import asyncio
from enum import Enum
from functools import lru_cache

from weldr.proxy.context import Context
from weldr.proxy.deadlines import NEVER
from weldr.proxy.dispatch import State
from weldr.proxy.exchange import Exchange
from weldr.proxy.fleet import Table
from weldr.proxy.flow import HIGH_WATER_BYTES, Hold, ReadGate, as_transport, has_ended, reset, write_parts
from weldr.proxy.forwarding import Forwarding
from weldr.proxy.observed_exchange import ObservedExchange
from weldr.proxy.own_responses import own_response
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.request_reader import RequestReader
from weldr.proxy.tunnel import TunnelEnd
from weldr.proxy.write_watch import WriteWatch

_LINGER_S = 2.0
"""How long a client that was told of the end may say nothing before it is cut off, ..."""
_LONGEST_LINGER_S = 30.0
"""... and how long it may go on to send, without having read that."""
_LAST_CALL_S = 1.0
"""How long a drained connection without a request waits for one that may be under way."""

_AWAKE_S = 5.0
"""How long a kept connection holds memory only to be quick with the next request."""

_ERROR_OF_STATUS = {200: None, 503: "connection_limit_reached"}
"""The error types of RFC 9209 for weldr's own answers, where it is not `http_request_error`."""


class Phase(Enum):
    """See the module's table."""

    OPEN = "open"
    LINGERING = "lingering"
    CLOSING = "closing"


# An attribute of a class with a metaclass is slow to look up.
_OPEN = Phase.OPEN
_RESPONDING = State.RESPONDING


class ClientConnection(asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_advancing",
        "_between",
        "_context",
        "_exchange",
        "_idle_until_s",
        "_input",
        "_local",
        "_peer",
        "_phase",
        "_position",
        "_reader",
        "_table",
        "address",
        "congested",
        "deadline_s",
        "ended",
        "forwarding",
        "gate",
        "transport",
        "writes",
    )

    def __init__(self, context: Context) -> None:
        self._context = context
        self._exchange: Exchange | None = None
        self._phase = _OPEN
        self._between = True
        """Only if nothing has come of the next request and nothing is in its way."""
        self._input = b""
        self._position = 0
        self._advancing = False
        self.ended = False
        """Whether the client has closed its direction."""
        self.congested = False
        """Whether the client falls behind in reading."""
        self.deadline_s = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = as_transport(transport)
        context = self._context
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.gate = ReadGate(transport)
        self.writes = WriteWatch(transport)
        table = context.fleet.table
        self._peer = _host_of(transport.get_extra_info("peername"))
        self.address = self._peer or "unknown"
        """The client's, without its port."""
        self._local = transport.get_extra_info("sockname")
        self._reader = RequestReader(_authority(self._local), table.limits)
        self._adopt(table)
        wait_s = _LAST_CALL_S if context.draining else table.timeouts.client_head_s
        self.deadline_s = self._idle_until_s = context.now_s() + wait_s
        context.counters.connections += 1
        context.deadlines.add(self)
        context.clients.add(self)
        if len(context.clients) > context.client_limit:
            self._refuse(RequestRefusedError(503, "there are as many connections as may be: try again"))
            # It is room that is missing.
            self._idle_until_s = self.deadline_s

    @property
    def may_persist(self) -> bool:
        """Whether, for all that weldr knows, another request can follow on this connection."""
        context = self._context
        if self._position < len(self._input):
            # While draining, what was sent ahead is answered, too; not for ever: a client may always send more.
            return not context.draining or context.now_s() < context.drain_began_s + _LAST_CALL_S
        return not (self.ended or context.draining)

    @property
    def has_ended(self) -> bool:
        """Whether the client has closed its direction; the system knows, where a body waits before that."""
        return self.ended or (self.gate.held & Hold.NO_PEER != 0 and has_ended(self.transport))

    def _adopt(self, table: Table) -> None:
        """Go by this table from the next request on."""
        self._table = table
        self._reader.adopt(table.limits)
        port = self._local[1] if self._local else 0
        self.forwarding = Forwarding(table.forwarding, self._peer, port)
        """What backends are told of who this is."""

    # Reading.

    def data_received(self, data: bytes) -> None:
        if self._between:
            self._between = False
            context = self._context
            if context.fleet.table is self._table:
                head = self._reader.whole(data)
                if head is not None:
                    # The short cut of what follows.
                    self.deadline_s = NEVER
                    exchange_type = ObservedExchange if context.observed else Exchange
                    exchange = self._exchange = exchange_type(context, self, head, [], True)
                    try:
                        exchange.begin()
                    except Exception as error:
                        context.fault("client", error)
                        self.transport.abort()
                    return
        if self._phase is not _OPEN:
            if self._phase is Phase.LINGERING:
                self.deadline_s = min(self._context.now_s() + _LINGER_S, self._idle_until_s)
            return
        if self._input:
            data = self._input[self._position :] + data
        self._input = data
        self._position = 0
        self._advance()

    def eof_received(self) -> bool:
        self.ended = True
        if self._exchange is not None:
            if not self._reader.complete:
                self._refuse(RequestRefusedError(400, "the request ended before its body was complete"))
            else:
                self._exchange.client_ended()
            # A client that has only closed its own direction still gets its answer.
            return True
        if self._phase is _OPEN and self._position < len(self._input):
            return True
        self._close()
        return False

    def _advance(self) -> None:
        """Read on as far as the exchange, if there is one, lets us."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._position < len(self._input) and self._phase is _OPEN:
                if self._exchange is None:
                    if self.congested:
                        self.gate.hold(Hold.TURN)
                        return
                elif self._reader.complete:
                    self.gate.hold(Hold.TURN)
                    return
                self._read_once()
            self._input = b""
            self._position = 0
            if self.gate.held:
                self.gate.release(Hold.TURN)
        except RequestRefusedError as refusal:
            self._refuse(refusal)
        except Exception as error:
            self._context.fault("client", error)
            self.transport.abort()
        finally:
            self._advancing = False

    def _read_once(self) -> None:
        reader, context = self._reader, self._context
        was_started = reader.started
        table = context.fleet.table
        if table is not self._table and not was_started:
            self._adopt(table)
        self._position = reader.feed(self._input, self._position)
        head = reader.head
        if head is None:
            if reader.started and not was_started:
                self.deadline_s = context.now_s() + table.timeouts.client_head_s
            return
        complete = reader.complete
        self.deadline_s = NEVER if complete else context.now_s() + table.timeouts.read_s
        exchange = self._exchange
        if exchange is None:
            exchange_type = ObservedExchange if context.observed else Exchange
            exchange = self._exchange = exchange_type(context, self, head, reader.take_body(), complete)
            exchange.begin()
        else:
            exchange.request_received(reader.take_body(), complete=complete)

    def _refuse(self, refusal: RequestRefusedError) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.request_broken(refusal)
            return
        error = _ERROR_OF_STATUS.get(refusal.status, "http_request_error")
        request_id = self._context.request_id_line().partition(b": ")[2]
        self._context.accounts.refused(self.address, refusal, error, request_id.decode("ascii"))
        self.write_own_response(
            refusal.status,
            refusal.reason,
            error=error,
            request_id=request_id,
            field_line=refusal.field_line,
            connection=b"\r\nConnection: close",
            head_only=self._reader.method_is_head,
        )
        self._linger()

    # For the exchange.

    def write(self, parts: list[bytes], *, small: bool = False) -> None:
        """Send to the client; `small` if the caller knows that it is not much."""
        transport = self.transport
        if not transport.is_closing():
            write_parts(self._context.outbox, transport, parts, small=small)

    def write_own_response(
        self,
        status: int,
        reason: str,
        *,
        error: str | None,
        request_id: bytes,
        connection: bytes,
        debug: bytes = b"",
        field_line: bytes | None = None,
        content_type: str | None = None,
        head_only: bool = False,
    ) -> None:
        """Send a response of weldr's own making."""
        response = own_response(
            status,
            reason,
            date=self._context.date,
            error=error,
            request_id=request_id,
            debug=debug,
            field_line=field_line,
            content_type=content_type,
            connection=connection,
            head_only=head_only,
        )
        self.write([response])

    def exchange_ended(self, *, persistent: bool) -> None:
        """The exchange is over, and its response written."""
        if persistent:
            self.await_next(self._context.now_s())
            return
        self._exchange = None
        if self.gate.held:
            self.gate.release(Hold.PEER_FULL | Hold.NO_PEER)
        reader = self._reader
        wants_more = reader.head is not None and reader.head.fields.persistent
        if wants_more or not reader.complete or self._position < len(self._input):
            # More may come, also while the client has still to read the response.
            self._linger()
        else:
            self._close()

    def await_next(self, now_s: float) -> None:
        """The exchange is over, its response written, and another request may follow."""
        self._exchange = None
        if self.gate.held:
            self.gate.release(Hold.PEER_FULL | Hold.NO_PEER)
        self._reader.reset()
        context = self._context
        idle_s = _LAST_CALL_S if context.draining else context.fleet.table.timeouts.client_idle_s
        self._idle_until_s = now_s + idle_s
        self.deadline_s = now_s + (idle_s if idle_s < _AWAKE_S else _AWAKE_S)
        if self._position < len(self._input):
            self._advance()
        elif self.ended:
            self._close()
        else:
            self._between = not self.congested

    def reset(self) -> None:
        """Cut the client off in the middle of a response, so that it cannot take it for complete."""
        self._exchange = None
        self._phase = Phase.CLOSING
        # It may be late in the same sweep.
        self.deadline_s = NEVER
        reset(self.transport)

    def become_tunnel(self, write_limit_s: float) -> tuple[TunnelEnd, bytes]:
        """Hand the transport over to a tunnel, with what the client has already sent for it."""
        context = self._context
        self._exchange = None
        context.deadlines.remove(self)
        context.clients.discard(self)
        self.gate.release(Hold.ALL)
        end = TunnelEnd(context, self.transport, self.gate, write_limit_s)
        end.ended, end.congested = self.ended, self.congested
        context.clients.add(end)
        return end, self._input[self._position :]

    # Closing.

    def _close(self) -> None:
        self._between = False
        self._phase = Phase.CLOSING
        self._context.outbox.flush_of(self.transport)
        self.transport.close()
        self._await_flush()

    def _linger(self) -> None:
        if self.ended:
            self._close()
            return
        self._between = False
        self._phase = Phase.LINGERING
        self._input = b""
        self.gate.release(Hold.ALL)
        now_s = self._context.now_s()
        self.deadline_s, self._idle_until_s = now_s + _LINGER_S, now_s + _LONGEST_LINGER_S
        self._context.outbox.flush_of(self.transport)
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _await_flush(self) -> None:
        self.deadline_s = NEVER
        self.writes.begin_last(self._write_deadline_s())

    def _write_deadline_s(self) -> float:
        return self._context.now_s() + self._context.fleet.table.timeouts.read_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.deadlines.remove(self)
        self._context.clients.discard(self)
        self._phase = Phase.CLOSING
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            try:
                exchange.client_lost()
            except Exception as error:
                self._context.fault("client", error)

    def drain(self) -> None:
        """Take no request any more but one that is under way."""
        if self._exchange is None and not self._reader.started and self._phase is _OPEN:
            self._idle_until_s = self.deadline_s = min(self.deadline_s, self._context.now_s() + _LAST_CALL_S)

    def abort(self) -> None:
        """Cut it off."""
        reset(self.transport)

    give_up = abort

    # Flow control.

    def pause_writing(self) -> None:
        self.congested = True
        self._between = False
        self.writes.begin(self._write_deadline_s())
        if self._exchange is not None:
            self._exchange.client_congested(True)

    def resume_writing(self) -> None:
        self.congested = False
        if self._phase is not Phase.CLOSING:
            self.writes.end()
        if self._exchange is not None:
            self._exchange.client_congested(False)
        elif self._position < len(self._input):
            self._advance()

    # Called by the sweep.

    def expire(self, now_s: float) -> None:
        timeouts = self._context.fleet.table.timeouts
        if self._phase is Phase.LINGERING:
            if self.transport.get_write_buffer_size():
                # While it reads, it is looked at again: nobody else tells when it has read all.
                self.deadline_s = now_s + _LINGER_S
                if self.writes.deadline_s == NEVER:
                    self.writes.begin_last(self._write_deadline_s())
            else:
                self.transport.abort()
        elif self._exchange is not None:
            if self.gate.held or self._exchange.state is _RESPONDING:
                # It is not the client that is late, or it has its answer and may keep the rest of the body.
                self.deadline_s = now_s + timeouts.read_s
            else:
                self._refuse(RequestRefusedError(408, "the rest of the request did not come in time"))
        elif self._reader.started:
            self._refuse(RequestRefusedError(408, "the head of the request did not come in time"))
        elif now_s < self._idle_until_s:
            self._reader.forget()
            self.forwarding.forget()
            self.deadline_s = self._idle_until_s
        else:
            self._close()

    def expire_write(self, now_s: float) -> None:
        if not self.writes.has_progressed(self._write_deadline_s()):
            reset(self.transport)


def _host_of(peer: tuple[str, int] | None) -> str | None:
    return None if peer is None else _plain_address(peer[0])


@lru_cache(maxsize=64)
def _authority(local: tuple[str, int] | None) -> bytes:
    if local is None:
        return b"localhost"
    host = _plain_address(local[0])
    return (f"[{host}]:{local[1]}" if ":" in host else f"{host}:{local[1]}").encode("ascii")


def _plain_address(host: str) -> str:
    """Without zone; an IPv4 address as such also where it came by an IPv6 socket."""
    host = host.partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host
