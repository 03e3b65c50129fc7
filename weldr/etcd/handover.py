"""A bounded buffer between the task that reads etcd and the one that uses what was read."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """Items go in one by one and come out all at once, in order. One task on each side."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        """How many items it holds, and of what size together; one alone may be of any size."""
        self.blocked = False
        """Whether an item waits for room."""
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._items: list[Item] = []
        self._bytes = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._error: BaseException | None = None

    async def put(self, item: Item, size: int) -> None:
        """Add an item, once there is room. If cancelled, the item was not added."""
        while self._items and (len(self._items) >= self._limit or self._bytes + size > self._limit_bytes):
            self.blocked = True
            self._emptied.clear()
            try:
                await self._emptied.wait()
            finally:
                self.blocked = False
        self._items.append(item)
        self._bytes += size
        self._filled.set()

    def end(self, error: BaseException) -> None:
        """Nothing more will come; `take` raises this when all is taken."""
        self._error = error
        self._filled.set()

    async def take(self) -> list[Item]:
        """All items there are, at least one."""
        while not self._items:
            if self._error is not None:
                raise self._error
            self._filled.clear()
            await self._filled.wait()
        items, self._items = self._items, []
        self._bytes = 0
        self._emptied.set()
        return items
