"""A tunnel: what follows a 101, bytes both ways until both sides have ended (RFC 9110, section 7.8).

Each side's transport gets a `TunnelEnd` for its protocol, in place of the HTTP one. An end that is closed for
writing by its peer closes the other for writing, and nothing more: half-closed tunnels go on the other way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from weldr.proxy.context import Context
from weldr.proxy.deadlines import NEVER
from weldr.proxy.flow import Hold, ReadGate, reset


class TunnelEnd(asyncio.Protocol):
    """One side of a tunnel."""

    __slots__ = (
        "_context",
        "_ended",
        "_gate",
        "_on_lost",
        "_unsent_bytes",
        "_write_limit_s",
        "deadline_s",
        "other",
        "transport",
        "write_deadline_s",
    )

    other: TunnelEnd

    def __init__(
        self,
        context: Context,
        transport: asyncio.Transport,
        gate: ReadGate,
        write_limit_s: float,
        on_lost: Callable[[], None],
    ) -> None:
        """`write_limit_s` is how long this side may not read what it is sent."""
        self.transport = transport
        self.deadline_s = NEVER
        self.write_deadline_s = NEVER
        self._context = context
        self._gate = gate
        self._write_limit_s = write_limit_s
        self._on_lost = on_lost
        self._ended = False
        self._unsent_bytes = 0
        context.deadlines.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        other = self.other
        if other._ended:
            self.transport.close()
            other.transport.close()
            other.await_flush()
        elif not other.transport.is_closing():
            other.transport.write_eof()
        return True

    def await_flush(self) -> None:
        """It was closed and has only to send the rest: not for ever."""
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self.write_deadline_s = self._context.now_s() + self._write_limit_s

    def connection_lost(self, exc: Exception | None) -> None:
        self._context.deadlines.remove(self)
        other = self.other
        if exc is not None:
            reset(other.transport)
        elif not other.transport.is_closing():
            other.transport.close()
            other.await_flush()
        self._on_lost()

    def pause_writing(self) -> None:
        self.await_flush()
        self.other._gate.hold(Hold.PEER_FULL)

    def resume_writing(self) -> None:
        self.write_deadline_s = NEVER
        self.other._gate.release(Hold.PEER_FULL)

    def expire(self, now_s: float) -> None:
        """A tunnel waits for its peers without limit."""

    def expire_write(self, now_s: float) -> None:
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self.write_deadline_s = now_s + self._write_limit_s
        else:
            self.abort()

    def abort(self) -> None:
        """Cut both sides."""
        reset(self.transport)
        reset(self.other.transport)

    def drain(self) -> None:
        """A tunnel is a request in flight: it goes on."""
