"""What one turn of the event loop has to send, sent together when the turn ends.

A write wakes whoever it is for. Written one by one, with the work for the next request between any two, each
finds its receiver asleep again, and waking it is dear: the kernel interrupts another core. Several in a row
find most receivers awake, and Python's code and the kernel's do not drive each other out of the caches.

Each transport gets what is put here in order. Whoever does anything else with a transport that may have
something here, such as to close it, flushes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_MOST_WRITES = 64
"""So many are sent before the end of the turn: they neither wait nor take memory without bound."""


class Outbox:
    """See the module."""

    __slots__ = ("_call_soon", "_fault", "_writes")

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], fault: Callable[[str, BaseException], None]
    ) -> None:
        """`call_soon` calls at the end of the turn, `fault` takes an exception that nobody expected."""
        self._call_soon = call_soon
        self._fault = fault
        self._writes: list[tuple[asyncio.Transport, bytes]] = []

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Have `data` sent when the turn ends, unless the transport is closed by then."""
        writes = self._writes
        if not writes:
            self._call_soon(self.flush)
        writes.append((transport, data))
        if len(writes) >= _MOST_WRITES:
            self.flush()

    def flush(self) -> None:
        """Send all now."""
        writes, self._writes = self._writes, []
        for transport, data in writes:
            try:
                if not transport.is_closing():
                    transport.write(data)
            except Exception as error:
                self._fault("outbox", error)
                transport.abort()
