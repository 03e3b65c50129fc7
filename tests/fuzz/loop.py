"""An event loop without sockets, whose clock moves only when it is told to."""

from __future__ import annotations

import asyncio
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
