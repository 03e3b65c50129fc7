"""A worker's data plane in memory: one turn of its event loop is what a test makes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend, Service, Settings
from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context
from weldr.proxy.deadlines import SWEEP_INTERVAL_S

LOCAL = ("10.9.9.9", 8080)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class MemoryWorker:
    """One with some backends, and every connection that it has made to them."""

    def __init__(
        self, loop: MemoryLoop, policy: Service, backends: int, settings: Settings | None = None
    ) -> None:
        self.loop = loop
        self.links: list[MemoryTransport] = []
        self.held: list[asyncio.Future[None]] | None = None
        """Connections to backends that are not made yet, if they are held back."""
        loop.connect = self._connect
        self.context = Context(loop, on_backend_idle=lambda: None)
        put = {f"b{number}": Backend(host=f"10.1.0.{number}", port=80) for number in range(1, backends + 1)}
        self.context.fleet.apply(
            TrafficDelta(
                services={"default": ServiceDelta(policy=policy, put=put, removed=[])}, settings=settings
            )
        )

    async def _connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        if self.held is not None:
            waiting = self.loop.create_future()
            self.held.append(waiting)
            await waiting
        protocol = factory()
        link = MemoryTransport(self.loop, protocol, peer=(host, port), local=LOCAL, limit=1 << 20)
        self.links.append(link)
        return link, protocol

    def client(self, limit: int = 1 << 20) -> MemoryTransport:
        protocol = ClientConnection(self.context)
        return MemoryTransport(self.loop, protocol, peer=("10.0.0.1", 1), local=LOCAL, limit=limit)

    def pass_time(self, seconds: float) -> None:
        """With all that the worker does from time to time."""
        for _ in range(round(seconds / SWEEP_INTERVAL_S)):
            self.loop.advance(SWEEP_INTERVAL_S)
            self.loop.settle()
            self.context.tick()
            self.loop.settle()

    def warm(self, clients: list[MemoryTransport]) -> None:
        """A kept connection for each client."""
        for client in clients:
            client.deliver(b"GET /warm HTTP/1.1\r\nHost: a\r\n\r\n")
        self.loop.settle()
        for link in self.links:
            if b" /warm " in link.received:
                link.deliver(OK % (4, b"warm"))
        self.loop.settle()
        for client in clients:
            assert client.received.endswith(b"warm")
            client.received.clear()
        for link in self.links:
            link.received.clear()
