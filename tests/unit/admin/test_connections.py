"""The admin port's connections, by real sockets and an application that is as small as can be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from weldr.control.admin.connections import ConnectionLimits, Connections

Scenario = Callable[[str, int], Awaitable[None]]
_LIMIT_S = 30.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_LARGE = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
_MIDDLE = b"GET /middle HTTP/1.1\r\nHost: a\r\n\r\n"
_LARGE_BYTES = 16 * 1024 * 1024
_MIDDLE_BYTES = 512 * 1024


@contextlib.asynccontextmanager
async def _serving(
    limits: ConnectionLimits, never_asked: asyncio.Semaphore | None = None
) -> AsyncIterator[int]:
    @web.middleware
    async def busy(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        with connections.busy(request):
            response = await handler(request)
        connections.check_room(response)
        return response

    async def small(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bytes(_LARGE_BYTES))

    async def middle(request: web.Request) -> web.Response:
        return web.Response(body=bytes(_MIDDLE_BYTES))

    async def never(request: web.Request) -> web.Response:
        assert never_asked is not None
        never_asked.release()
        await asyncio.Future()
        raise AssertionError

    application = web.Application(middlewares=[busy])
    application.router.add_get("/", small)
    application.router.add_get("/large", large)
    application.router.add_get("/middle", middle)
    application.router.add_get("/never", never)
    connections = Connections(application, limits)
    listener = socket.create_server(("127.0.0.1", 0))
    await connections.start([listener])
    try:
        yield listener.getsockname()[1]
    finally:
        await connections.close()


async def _opened(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    client = socket.socket()
    # Else the kernel may take all of an answer that nobody reads.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=client)
    writer.write(data)
    return reader, writer


async def _ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side ends the connection, in whatever way."""
    found = b""
    async with asyncio.timeout(_LIMIT_S):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                found += data
    return found


def test_a_head_that_does_not_come_to_an_end_does_not_hold_its_connection() -> None:
    async def run() -> None:
        async with _serving(ConnectionLimits(most=10, head_s=0.3)) as port:
            silent, _kept_open = await _opened(port)
            slow, writer = await _opened(port, b"GET / HTTP/1.1\r\n")
            over = asyncio.create_task(_ended(slow))
            while not over.done():
                writer.write(b"A: b\r\n")
                await asyncio.sleep(0.02)
            assert await over == b""
            assert await _ended(silent) == b""

    asyncio.run(run())


def test_who_waits_without_a_request_gives_way_to_who_comes() -> None:
    async def run() -> None:
        async with _serving(ConnectionLimits(most=3)) as port:
            first, writer = await _opened(port, _REQUEST)
            await first.readuntil(b"ok")
            waiting = [await _opened(port) for _ in range(2)]
            writer.write(_REQUEST)
            await first.readuntil(b"ok")
            # Of the three the first has begun to wait last.
            newcomer, _ = await _opened(port, _REQUEST)
            await newcomer.readuntil(b"ok")
            assert await _ended(waiting[0][0]) == b""
            writer.write(_REQUEST)
            await first.readuntil(b"ok")

    asyncio.run(run())


def test_a_request_under_way_gives_way_to_nobody() -> None:
    async def run() -> None:
        never_asked = asyncio.Semaphore(0)
        async with _serving(ConnectionLimits(most=2), never_asked) as port:
            busy = [await _opened(port, b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(2)]
            for _ in busy:
                await never_asked.acquire()
            newcomer, _ = await _opened(port, _REQUEST)
            assert await _ended(newcomer) == b""
            assert not any(reader.at_eof() for reader, _ in busy)

    asyncio.run(run())


def test_who_does_not_read_its_answer_is_dropped_and_large_ones_have_to_wait_for_it() -> None:
    async def run() -> None:
        async with _serving(ConnectionLimits(most=10, stall_s=0.6, unread_bytes=1024 * 1024)) as port:
            stalled, _kept_open = await _opened(port, _LARGE)
            await stalled.readuntil(b"\r\n\r\n")
            refused, _ = await _opened(port, _LARGE)
            head = await refused.readuntil(b"\r\n")
            assert b"500" in head or b"503" in head
            # Nothing of the first is read until the server has given up: then there is room again.
            async with asyncio.timeout(_LIMIT_S):
                while True:
                    again, writer = await _opened(port, _LARGE)
                    if b" 200 " in await again.readuntil(b"\r\n"):
                        break
                    writer.close()
                    await asyncio.sleep(0.02)
            assert len(await _ended(stalled)) < _LARGE_BYTES

    asyncio.run(run())


def test_answers_of_a_middling_size_wait_for_room_as_well() -> None:
    async def run() -> None:
        async with _serving(ConnectionLimits(most=10, unread_bytes=1024 * 1024)) as port:
            stalled, _kept_open = await _opened(port, _LARGE)
            await stalled.readuntil(b"\r\n\r\n")
            # As many of these as there are connections would be too much, too.
            refused, _ = await _opened(port, _MIDDLE)
            head = await refused.readuntil(b"\r\n")
            assert b"500" in head or b"503" in head
            small, _ = await _opened(port, _REQUEST)
            await small.readuntil(b"ok")

    asyncio.run(run())
