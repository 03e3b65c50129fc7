"""What one turn of the event loop has to send, sent together when the turn ends.

A write wakes whoever it is for. Written one by one, with the work for the next request between any two, each
finds its receiver asleep again, and waking it is dear: the kernel interrupts another core. Several in a row
find most receivers awake, and Python's code and the kernel's do not drive each other out of the caches.

Each transport gets what is put here in order. Whoever does anything else with a transport that may have
something here, such as to close it, has that sent first; what others have here waits for the end of the turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

_MOST_WRITES = 64
"""So many are sent before the end of the turn: they neither wait nor take memory without bound."""


class Sender(Protocol):
    """Who wants to know if something of its own was not sent."""

    def unsent(self, data: bytes) -> None:
        """The transport was closed before any of this, the whole of what was put in this turn, was sent."""


class Outbox:
    """See the module."""

    __slots__ = ("_call_soon", "_fault", "_is_awaited", "_writes", "turn")

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], fault: Callable[[str, BaseException], None]
    ) -> None:
        """`call_soon` calls at the end of the turn, `fault` takes an exception that nobody expected."""
        self._call_soon = call_soon
        self._fault = fault
        self._writes: list[tuple[asyncio.Transport, bytes, Sender | None]] = []
        self._is_awaited = False
        """Whether the end of the turn is."""
        self.turn = 0
        """A number that changes whenever all is sent: at the end of a turn, or when there is much."""

    def put(self, transport: asyncio.Transport, data: bytes, sender: Sender | None = None) -> None:
        """Have `data` sent when the turn ends. If the transport is closed by then, `sender` is told."""
        writes = self._writes
        if not self._is_awaited:
            self._is_awaited = True
            self._call_soon(self._end_turn)
        writes.append((transport, data, sender))
        if len(writes) >= _MOST_WRITES:
            self.flush()

    def _end_turn(self) -> None:
        self._is_awaited = False
        self.flush()

    def flush(self) -> None:
        """Send all now."""
        writes, self._writes = self._writes, []
        self.turn += 1
        self._send(writes)

    def flush_of(self, transport: asyncio.Transport) -> None:
        """Send what one transport has here."""
        mine = [each for each in self._writes if each[0] is transport]
        if mine:
            self._writes = [each for each in self._writes if each[0] is not transport]
            self._send(mine)

    def _send(self, writes: list[tuple[asyncio.Transport, bytes, Sender | None]]) -> None:
        unsent: dict[Sender, bytes] | None = None
        for transport, data, sender in writes:
            try:
                if not transport.is_closing():
                    transport.write(data)
                elif sender is not None:
                    unsent = unsent or {}
                    if sender in unsent:
                        unsent[sender] += data
                    elif _first_of(sender, writes) is data:
                        unsent[sender] = data
            except Exception as error:
                self._fault("outbox", error)
                transport.abort()
        if unsent is not None:
            # Last, since these may put, or flush, something else.
            for sender, data in unsent.items():
                sender.unsent(data)


def _first_of(sender: Sender, writes: list[tuple[asyncio.Transport, bytes, Sender | None]]) -> bytes:
    """What a sender put first: if that was sent, a transport that fails with the rest has sent something."""
    return next(data for _, data, each in writes if each is sender)
