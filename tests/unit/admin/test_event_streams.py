"""Event streams, by real sockets: what they may hold together, and who may have one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

from aiohttp import web

from weldr.control.admin.endpoint import Call
from weldr.control.admin.event_streams import EventStreams
from weldr.control.admin.guard import Caller
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.tokens import Role
from weldr.etcd.follow import Snapshot
from weldr.model.catalog import Catalog
from weldr.model.keys import KeySpace

_LIMIT_S = 60.0
_PIECE = "x" * 50_000
_MOST = 8
_TOGETHER_BYTES = 300_000


@contextlib.asynccontextmanager
async def _serving() -> AsyncIterator[tuple[EventStreams, int]]:
    keys = KeySpace()
    mirror = Mirror(keys, lambda news: None)
    mirror.take([Snapshot(5, (), "start")], Catalog(keys))
    streams = EventStreams(mirror, "one", _MOST, together_bytes=_TOGETHER_BYTES)
    streams.begin()
    streams.start()
    endpoint = streams.endpoints()[0]

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await endpoint.handler(Call(request, endpoint, Caller("test", "", Role.READ)))
        except ProblemError as problem:
            return problem.response()

    application = web.Application()
    application.router.add_get(endpoint.path, serve)
    runner = web.AppRunner(application, shutdown_timeout=1.0)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    # Of what nobody reads the kernel shall hold little.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await web.SockSite(runner, listener).start()
    try:
        yield streams, listener.getsockname()[1]
    finally:
        await streams.close()
        await runner.cleanup()


class _Client:
    def __init__(self, port: int, query: str = "", version: str = "HTTP/1.1") -> None:
        self._query, self._version = query, version
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)
        self.received = b""

    async def ask(self) -> None:
        head = f"GET /api/v1/events{self._query} {self._version}\r\nHost: a\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(self._socket, head.encode())

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(_LIMIT_S):
            while text not in self.received:
                data = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 20)
                assert data, self.received[-200:]
                self.received += data

    def close(self) -> None:
        self._socket.close()


async def _opened(port: int, query: str = "", version: str = "HTTP/1.1") -> _Client:
    client = _Client(port, query, version)
    await client.ask()
    return client


def test_together_they_hold_no_more_than_a_bound_and_who_reads_is_not_dropped() -> None:
    async def run() -> None:
        async with _serving() as (streams, port):
            slow = [await _opened(port) for _ in range(4)]
            for client in slow:
                await client.until(b"event: hello")
            good = await _opened(port)
            await good.until(b"event: hello")
            # 600,000 bytes for each: none alone is too slow.
            for number in range(12):
                streams.tell("piece", {"number": number, "text": _PIECE})
                await good.until(b'"number":%d,' % number)
                waiting = sum(stream.waiting_bytes for stream in streams._streams)
                assert waiting <= _TOGETHER_BYTES + len(_PIECE) + 1000
            for client in slow:
                client.close()
            good.close()

    asyncio.run(run())


def test_one_that_waits_for_a_revision_to_come_is_counted_as_well() -> None:
    async def run() -> None:
        async with _serving() as (_, port):
            waiting = [await _opened(port, "?since=999") for _ in range(_MOST)]
            refused = 0
            for _ in range(3):
                late = await _opened(port, "?since=999")
                await late.until(b"\r\n\r\n")
                refused += b" 503 " in late.received
                late.close()
            for client in waiting:
                await client.until(b"event: reset")
                client.close()
            assert refused == 3

    asyncio.run(run())


def test_a_client_of_http_1_0_gets_the_events_as_they_are() -> None:
    async def run() -> None:
        async with _serving() as (streams, port):
            client = await _opened(port, version="HTTP/1.0")
            await client.until(b"event: hello")
            streams.tell("piece", {"number": 1})
            await client.until(b'data: {"number":1}\n\n')
            head, _, body = client.received.partition(b"\r\n\r\n")
            assert b" 200 " in head.split(b"\r\n")[0]
            assert b"chunked" not in head
            assert body.startswith(b"id: 5-0000000000000000\nevent: hello\n")
            assert b"\n\nevent: piece\n" in body
            client.close()

    asyncio.run(run())
