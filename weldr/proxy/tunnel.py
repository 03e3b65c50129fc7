"""A tunnel: what follows a 101, bytes both ways until both sides have ended (RFC 9110, section 7.8).

Each side's transport gets a `TunnelEnd` for its protocol, in place of the HTTP one. An end whose peer closes
its direction closes that direction of the other, and nothing more: the other direction goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from weldr.proxy.context import Context
from weldr.proxy.deadlines import NEVER
from weldr.proxy.flow import Hold, ReadGate, reset
from weldr.proxy.write_watch import WriteWatch


class TunnelEnd(asyncio.Protocol):
    """One side of a tunnel. It is in force after `join`."""

    __slots__ = (
        "_context",
        "_gate",
        "_idle_s",
        "_lost",
        "_on_end",
        "_other",
        "_transport",
        "_write_limit_s",
        "congested",
        "deadline_s",
        "ended",
        "writes",
    )

    _other: TunnelEnd
    _idle_s: float
    _on_end: Callable[[], None]

    def __init__(
        self, context: Context, transport: asyncio.Transport, gate: ReadGate, write_limit_s: float
    ) -> None:
        """`write_limit_s` is how long this side may not read what it is sent."""
        self._context = context
        self._transport = transport
        self._gate = gate
        self._write_limit_s = write_limit_s
        self._lost = False
        self.ended = False
        """Whether the peer has closed its direction."""
        self.congested = False
        """Whether the peer falls behind in reading."""
        self.deadline_s = NEVER
        self.writes = WriteWatch(transport)

    def _begin(self, other: TunnelEnd, idle_s: float, on_end: Callable[[], None]) -> None:
        self._other = other
        self._idle_s = idle_s
        self.deadline_s = self._context.now_s() + idle_s
        self._on_end = on_end
        self._context.deadlines.add(self)
        self._transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        other = self._other
        self.deadline_s = other.deadline_s = self._context.now_s() + self._idle_s
        if data and not other._transport.is_closing():
            other._transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        other = self._other
        if other.ended:
            self._close()
            other._close()
        elif not other._transport.is_closing():
            other._transport.write_eof()
        return True

    def _close(self) -> None:
        """Close when the rest is sent, which must not take for ever."""
        if not self._transport.is_closing():
            self._transport.close()
            self._await_progress()

    def _await_progress(self) -> None:
        self.writes.begin(self._context.now_s() + self._write_limit_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._context.deadlines.remove(self)
        self._context.clients.discard(self)
        if self._other._lost:
            self._on_end()
        elif exc is None:
            self._other._close()
        else:
            reset(self._other._transport)

    def pause_writing(self) -> None:
        self.congested = True
        self._await_progress()
        self._other._gate.hold(Hold.PEER_FULL)

    def resume_writing(self) -> None:
        self.congested = False
        self.writes.end()
        self._other._gate.release(Hold.PEER_FULL)

    def expire(self, now_s: float) -> None:
        """Neither side has said anything for too long."""
        self.abort()

    def expire_write(self, now_s: float) -> None:
        if not self.writes.has_progressed(now_s + self._write_limit_s):
            self.abort()

    def give_up(self) -> None:
        """Cut both sides."""
        self.abort()

    def drain(self) -> None:
        """A tunnel is a request in flight: it goes on."""

    def abort(self) -> None:
        """Cut both sides."""
        reset(self._transport)
        reset(self._other._transport)


def join(client_end: TunnelEnd, backend_end: TunnelEnd, idle_s: float, on_end: Callable[[], None]) -> None:
    """Let the two pass on to each other from now on, until neither has said anything for `idle_s`.

    `on_end` is called when both are gone.
    """
    client_end._begin(backend_end, idle_s, on_end)
    backend_end._begin(client_end, idle_s, on_end)
    for end in (client_end, backend_end):
        if end.congested:
            end.pause_writing()
    if client_end.ended:
        client_end.eof_received()
