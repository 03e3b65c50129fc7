"""A connection to a backend: one exchange at a time, kept in the pool between them.

While it is kept it is still read: a backend that closes it, or says anything unasked, takes it out of the pool.
So it is, also on a new one, until the request is sent, which waits in the outbox for the end of the turn: what
is read in the same turn was said before. Then the request is given back, whatever its method.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from weldr.model.values import Limits
from weldr.proxy.context import Context
from weldr.proxy.deadlines import NEVER
from weldr.proxy.flow import HIGH_WATER_BYTES, SMALL_BYTES, Hold, ReadGate, as_transport, unread, write_parts
from weldr.proxy.pool import BackendPool
from weldr.proxy.response_fields import ResponseInvalidError
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.response_reader import ResponseReader
from weldr.proxy.tunnel import TunnelEnd
from weldr.proxy.write_watch import WriteWatch

_KEPT_MARGIN_S = 1.0
"""How long before the backend would close it a connection is retired: more than a sweep is late."""
_NOT_AT_ALL = 0.0
"""A time until which a connection is not kept."""
_SENT = -1
"""No turn of the outbox: the request has gone out."""


class UpstreamUser(Protocol):
    """The exchange that has the connection for itself.

    After each of the last four it has it no more, nor after an `upstream_answered` that is true. But where a
    backend that has answered does not read the rest of the request, it keeps it.
    """

    def upstream_received(self) -> None:
        """The reader has news."""

    def upstream_answered(self, head: ResponseHead, body: bytes) -> bool:
        """This is the whole response, of which the reader knows nothing. If false, the reader is to read it."""

    def upstream_congested(self, congested: bool) -> None:
        """The backend does, or does not, fall behind in reading."""

    def upstream_invalid(self, error: ResponseInvalidError) -> None:
        """What the backend sent is no response, or ends too early."""

    def upstream_unsent(self, unsent: bytes) -> None:
        """The connection had ended before any byte of the request, of which `unsent` had come, was sent."""

    def upstream_lost(self) -> None:
        """The connection is gone before the response was complete."""

    def upstream_timed_out(self, *, writing: bool) -> None:
        """The backend has not sent, or not read, anything for too long."""

    def give_up(self) -> None:
        """An exception that nobody expected: end it, so that nobody waits for it."""


class UpstreamConnection(asyncio.Protocol):
    """See the module."""

    __slots__ = (
        "_context",
        "_pool",
        "_turn",
        "congested",
        "deadline_s",
        "gate",
        "reader",
        "transport",
        "used",
        "user",
        "write_limit_s",
        "writes",
    )

    def __init__(self, context: Context, pool: BackendPool) -> None:
        self.reader = ResponseReader()
        self.user: UpstreamUser | None = None
        self.used = False
        """Whether it has carried a request before the present one."""
        self.congested = False
        self.deadline_s = NEVER
        self.write_limit_s = 0.0
        """How long the backend may not read what it is sent."""
        self._context = context
        self._pool = pool
        self._turn = 0
        """Of the outbox, when the request was put there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = as_transport(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self.transport = transport
        self.gate = ReadGate(transport)
        self.writes = WriteWatch(transport)
        self._context.deadlines.add(self)

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return not self.transport.is_closing()

    def begin(
        self, user: UpstreamUser, method: bytes, data: bytes, write_limit_s: float, limits: Limits
    ) -> None:
        """Serve `user` from now on: send `data`, its request or the beginning of it."""
        self.user = user
        self.write_limit_s = write_limit_s
        reader = self.reader
        if reader.started or limits is not reader.limits:
            reader.begin(limits)
        reader.method = method
        outbox = self._context.outbox
        self._turn = outbox.turn
        outbox.put_request(self.transport, data, self)

    def release(self, idle_s: float) -> None:
        """The exchange is complete: to the pool with the connection, if it is fit for another one.

        It is kept for `idle_s`, or shorter if the backend has said that it closes it earlier.
        """
        reader = self.reader
        assert reader.head is not None
        kept_s = reader.head.fields.kept_s
        if kept_s is not None:
            idle_s = min(idle_s, kept_s - _KEPT_MARGIN_S)
        self.release_until(self._context.now_s() + idle_s if reader.reusable and idle_s > 0 else _NOT_AT_ALL)

    def release_until(self, until_s: float) -> None:
        """The exchange is complete: to the pool with the connection, for no longer than until then."""
        self.user = None
        self.used = True
        if self.gate.held:
            self.gate.release(Hold.PEER_FULL)
        if until_s and not self.congested:
            self._pool.keep(self, until_s)
        else:
            self.deadline_s = NEVER
            self.close()

    def write(self, parts: list[bytes]) -> None:
        """Send more of the request."""
        outbox = self._context.outbox
        if self._turn == outbox.turn:
            # With what it follows, or not at all.
            more = b"".join(parts)
            outbox.put_request(self.transport, more, self)
            if len(more) > SMALL_BYTES:
                # A client can send many of these in one turn, and only what is written makes it wait.
                self._turn = _SENT
                outbox.flush_of(self.transport)
        else:
            write_parts(outbox, self.transport, parts)

    def become_tunnel(self, write_limit_s: float) -> tuple[TunnelEnd, bytes]:
        """Hand the transport over to a tunnel, with what the backend has already sent for it."""
        self.user = None
        self._context.deadlines.remove(self)
        self.gate.release(Hold.ALL)
        end = TunnelEnd(self._context, self.transport, self.gate, write_limit_s)
        end.congested = self.congested
        return end, self.reader.tunnel_data

    def close(self) -> None:
        """Close, in good order if nothing is left to send."""
        self.user = None
        if self.congested:
            self.transport.abort()
        else:
            self._context.outbox.flush_of(self.transport)
            self.transport.close()
            if self.transport.get_write_buffer_size():
                # The rest of what has been answered already: nobody waits for it any more.
                self.deadline_s = NEVER
                self.writes.begin_last(self._context.now_s() + self.write_limit_s)

    def abort(self) -> None:
        """Close at once: what was begun cannot be finished."""
        self.user = None
        self.transport.abort()

    def give_up(self) -> None:
        """An exception that nobody expected."""
        user = self.user
        self.abort()
        if user is not None:
            user.give_up()

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        user = self.user
        if user is None or self._turn == self._context.outbox.turn:
            # Nobody has asked for it.
            self._pool.forget(self)
            self.transport.abort()
            return
        reader = self.reader
        try:
            whole = reader.whole(data)
            if whole is not None:
                head, body = whole
                if user.upstream_answered(head, body):
                    return
            reader.feed(data)
            user.upstream_received()
        except ResponseInvalidError as error:
            user.upstream_invalid(error)
        except Exception as error:
            self._fault(user, error)

    def eof_received(self) -> bool:
        user = self.user
        if user is None:
            self._pool.forget(self)
            return False
        try:
            if self.reader.started:
                self.reader.end()
                user.upstream_received()
        except ResponseInvalidError as error:
            user.upstream_invalid(error)
        except Exception as error:
            self._fault(user, error)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._turn == self._context.outbox.turn:
            # It had failed before it was taken out of the pool: nothing is sent then.
            self._context.outbox.flush_of(self.transport)
        if exc is not None and self.user is not None and not self.gate.held:
            self._receive_rest()
        self._context.deadlines.remove(self)
        self._pool.forget(self)
        user, self.user = self.user, None
        if user is not None:
            try:
                user.upstream_lost()
            except Exception as error:
                self._fault(user, error)

    def unsent(self, data: bytes) -> None:
        """Called by the outbox."""
        user = self.user
        if user is None or self.reader.started:
            return
        self.user = None
        try:
            user.upstream_unsent(data)
        except Exception as error:
            self._fault(user, error)

    def _fault(self, user: UpstreamUser, error: Exception) -> None:
        """In what the user did, which may have let the connection go already and be left without a deadline."""
        self._context.fault("upstream", error)
        self.abort()
        user.give_up()

    def _receive_rest(self) -> None:
        """A backend that refuses a body answers and closes: then writing fails before its answer is read."""
        for data in unread(self.transport):
            self.data_received(data)
            if self.user is None:
                return

    def pause_writing(self) -> None:
        self.congested = True
        self.writes.begin(self._context.now_s() + self.write_limit_s)
        if self.user is not None:
            self.user.upstream_congested(True)

    def resume_writing(self) -> None:
        self.congested = False
        self.writes.end()
        if self.user is not None:
            self.user.upstream_congested(False)

    # Called by the sweep.

    def expire(self, now_s: float) -> None:
        user = self.user
        if user is None:
            self._pool.forget(self)
            self.close()
        elif self.gate.held and self.reader.head is not None:
            # It is the client that cannot take more. (Before the head that can only be interim responses.)
            self.deadline_s = now_s + self.write_limit_s
        else:
            user.upstream_timed_out(writing=False)

    def expire_write(self, now_s: float) -> None:
        if self.writes.has_progressed(now_s + self.write_limit_s):
            return
        if self.user is not None:
            self.user.upstream_timed_out(writing=True)
        else:
            self.transport.abort()
