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
_MOST_REQUESTS = 1024
_MOST_REQUEST_BYTES = 8 << 20
"""From so many requests, or so many bytes of them, on they do not wait, either. Not from fewer: what a backend
says unasked is noticed only while the request that it must not answer has not been sent."""


class Sender(Protocol):
    """Who sends a request, and wants to know if it was not sent."""

    def unsent(self, data: bytes) -> None:
        """The transport was closed before any of this, the whole of what was put in this turn, was sent."""


class Outbox:
    """See the module."""

    __slots__ = ("_call_soon", "_fault", "_is_awaited", "_request_bytes", "_requests", "_writes", "turn")

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], object], fault: Callable[[str, BaseException], None]
    ) -> None:
        """`call_soon` calls at the end of the turn, `fault` takes an exception that nobody expected."""
        self._call_soon = call_soon
        self._fault = fault
        self._writes: list[tuple[asyncio.Transport, bytes]] = []
        self._requests: dict[asyncio.Transport, tuple[bytes, Sender]] = {}
        self._request_bytes = 0
        self._is_awaited = False
        """Whether the end of the turn is."""
        self.turn = 0
        """A number that changes whenever the requests are sent: at the end of a turn, or if they are many."""

    def put(self, transport: asyncio.Transport, data: bytes) -> None:
        """Have `data` sent when the turn ends, or before that."""
        writes = self._writes
        if not self._is_awaited:
            self._is_awaited = True
            self._call_soon(self._end_turn)
        writes.append((transport, data))
        if len(writes) >= _MOST_WRITES:
            self._send_writes()

    def put_request(self, transport: asyncio.Transport, data: bytes, sender: Sender) -> None:
        """Have `data`, a request or more of one, sent when the turn ends. If the transport is closed by then,
        `sender` is told.
        """
        requests = self._requests
        if not self._is_awaited:
            self._is_awaited = True
            self._call_soon(self._end_turn)
        before = requests.get(transport)
        requests[transport] = (data if before is None else before[0] + data, sender)
        self._request_bytes += len(data)
        if len(requests) >= _MOST_REQUESTS or self._request_bytes >= _MOST_REQUEST_BYTES:
            self._send_requests()

    def _end_turn(self) -> None:
        self._is_awaited = False
        self._send_requests()

    def _send_writes(self) -> None:
        writes, self._writes = self._writes, []
        self._send(writes)

    def _send_requests(self) -> None:
        # What else there is for a connection is the end of the request before.
        self._send_writes()
        requests, self._requests, self._request_bytes = self._requests, {}, 0
        self.turn += 1
        writes, unsent = [], []
        for transport, (data, sender) in requests.items():
            if transport.is_closing():
                unsent.append((sender, data))
            else:
                writes.append((transport, data))
        self._send(writes)
        # Last, since these may put, or flush, something else.
        for sender, data in unsent:
            sender.unsent(data)

    def flush_of(self, transport: asyncio.Transport) -> None:
        """Send what one transport has here."""
        mine = [each for each in self._writes if each[0] is transport]
        if mine:
            self._writes = [each for each in self._writes if each[0] is not transport]
        request = self._requests.pop(transport, None)
        if request is None:
            self._send(mine)
            return
        data, sender = request
        if transport.is_closing():
            sender.unsent(data)
        else:
            self._send([*mine, (transport, data)])

    def _send(self, writes: list[tuple[asyncio.Transport, bytes]]) -> None:
        for transport, data in writes:
            try:
                if not transport.is_closing():
                    transport.write(data)
            except Exception as error:
                self._fault("outbox", error)
                transport.abort()
