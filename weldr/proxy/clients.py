"""The connections of clients that are open, for the end of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Client(Protocol):
    """A client's connection, whatever it speaks."""

    def drain(self) -> None:
        """Take no request any more but one that is under way."""

    def abort(self) -> None:
        """Cut it off."""


class Clients:
    """All of them. `on_change` is called when one has come or gone."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._open: set[Client] = set()
        self._gone = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, client: Client) -> None:
        self._open.add(client)
        self.on_change()

    def discard(self, client: Client) -> None:
        self._open.discard(client)
        self.on_change()
        if not self._open:
            self._gone.set()

    def drain(self) -> None:
        """Let each finish what is under way."""
        for client in list(self._open):
            client.drain()

    def abort(self) -> None:
        """Cut off each."""
        for client in list(self._open):
            client.abort()

    async def wait_gone(self) -> None:
        """Wait until there is none."""
        while self._open:
            self._gone.clear()
            await self._gone.wait()
