"""Backends that treat the n-th request that reaches any of them in the n-th way of a list."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.support.backends import (
    LIMIT_S,
    BackendConnection,
    Received,
    ScriptedBackend,
    response,
    scripted_backend,
)

Reaction = Callable[[BackendConnection], Awaitable[None]]


class Tries:
    """What was tried, in the order in which it came. After the last reaction, each request is answered `ok`."""

    def __init__(self, *reactions: Reaction) -> None:
        self._reactions = list(reactions)
        self.received: list[Received] = []
        self.connections: list[BackendConnection] = []
        """For each request, the one that it came on."""
        self.backends: list[ScriptedBackend] = []
        self._arrived = asyncio.Condition()

    @property
    def ports(self) -> list[int]:
        """For each request, whose port it came to."""
        return [each.writer.get_extra_info("sockname")[1] for each in self.connections]

    @property
    def targets(self) -> list[str]:
        return [each.target for each in self.received]

    async def until(self, count: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(LIMIT_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)

    async def script(self, connection: BackendConnection) -> None:
        while (received := await connection.request()) is not None:
            async with self._arrived:
                self.received.append(received)
                self.connections.append(connection)
                self._arrived.notify_all()
            react = self._reactions.pop(0) if self._reactions else ok
            await react(connection)


@contextlib.asynccontextmanager
async def backends(tries: Tries, count: int) -> AsyncIterator[list[int]]:
    """So many of them; their ports."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            tries.backends.append(await stack.enter_async_context(scripted_backend(tries.script)))
        yield [each.port for each in tries.backends]


async def ok(connection: BackendConnection) -> None:
    await connection.send(response())


async def reset(connection: BackendConnection) -> None:
    connection.reset()


async def close(connection: BackendConnection) -> None:
    connection.close()


async def hang(connection: BackendConnection) -> None:
    """Never answer; end when the other side does."""
    await connection.reader.read()


def answer(data: bytes) -> Reaction:
    async def react(connection: BackendConnection) -> None:
        await connection.send(data)

    return react


def status(code: int, body: bytes = b"no") -> Reaction:
    return answer(response(body, status=f"{code} No"))


def then_reset(data: bytes) -> Reaction:
    """Send this, and reset when it has been read."""

    async def react(connection: BackendConnection) -> None:
        await connection.send(data)
        await connection.until_read()
        connection.reset()

    return react


def late(event: asyncio.Event, data: bytes | None = None) -> Reaction:
    """Answer when the event is set."""

    async def react(connection: BackendConnection) -> None:
        await event.wait()
        await connection.send(response() if data is None else data)

    return react


async def until_ended(connection: BackendConnection) -> None:
    """Wait for the other side to close it, and for its script to notice."""
    async with asyncio.timeout(LIMIT_S):
        await connection.ended.wait()
