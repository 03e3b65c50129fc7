"""An event loop without sockets, whose clock moves only when it is told to."""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Connect = Callable[[Callable[[], asyncio.Protocol], str, int], Awaitable[Any]]


class _NoDescriptors(selectors.BaseSelector):
    """Reports nothing, and tells when the loop would have to wait."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}
        self.on_wait: Callable[[], None] = lambda: None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.on_wait()
        return []


class MemoryLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now_s = 0.0
        selector = _NoDescriptors()
        super().__init__(selector)
        selector.on_wait = self.stop
        self.connect: Connect | None = None
        """What makes a connection, in place of the network."""

    def time(self) -> float:
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due then runs at the next `settle`."""
        self._now_s += seconds

    def settle(self) -> None:
        """Run until nothing is left to do before time passes."""
        self.run_forever()

    def _run_once(self) -> None:
        # As uvloop does, and asyncio does not: timers that are due come before what a turn has left to its end.
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        due = []
        while scheduled and scheduled[0].when() <= self._now_s and not scheduled[0].cancelled():
            handle = heapq.heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            due.append(handle)
        self._ready.extendleft(reversed(due))  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.Protocol],
        host: str | None = None,
        port: int | None = None,
        **_: Any,
    ) -> Any:
        assert self.connect is not None
        assert host is not None
        assert port is not None
        return await self.connect(protocol_factory, host, port)
