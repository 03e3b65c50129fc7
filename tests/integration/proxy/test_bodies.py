"""Bodies of any size, in both directions, with peers of any speed: all of it arrives, and memory is bounded."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket

import pytest

from tests.support.backends import BackendConnection, scripted_backend
from tests.support.http import RawClient, get
from tests.support.worker import Worker, traffic
from weldr.model.values import Settings, Timeouts

MB = 1024 * 1024
BODY_MB = int(os.environ.get("WELDR_TEST_BODY_MB", "128"))
"""Enough to see memory grow; 1024 is what is promised of 1 GiB."""
BLOCK = os.urandom(MB)
MAX_GROWTH_BYTES = 16 * MB


def digest_of_all() -> str:
    digest = hashlib.sha256()
    for _ in range(BODY_MB):
        digest.update(BLOCK)
    return digest.hexdigest()


DIGEST = digest_of_all()


class Growth:
    """The most that the worker's memory has grown since `begin`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._before = worker.rss_bytes
        self.most_bytes = 0

    def look(self) -> None:
        self.most_bytes = max(self.most_bytes, self._worker.rss_bytes - self._before)

    def check(self) -> None:
        self.look()
        assert self.most_bytes < MAX_GROWTH_BYTES, self.most_bytes / MB


async def send_body(writer: asyncio.StreamWriter, growth: Growth, *, chunked: bool) -> None:
    for _ in range(BODY_MB):
        writer.write(b"%x\r\n%b\r\n" % (MB, BLOCK) if chunked else BLOCK)
        await writer.drain()
        growth.look()
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def digest_of(reader: asyncio.StreamReader, size: int, *, pause_every: int = 0) -> str:
    """Read a body without keeping it, slowly if asked to."""
    digest = hashlib.sha256()
    got = 0
    while got < size:
        block = await reader.read(min(size - got, 256 * 1024))
        assert block, f"the body ended after {got} bytes"
        got += len(block)
        digest.update(block)
        if pause_every and got // pause_every != (got - len(block)) // pause_every:
            await asyncio.sleep(0.05)
    return digest.hexdigest()


async def digest_of_chunks(reader: asyncio.StreamReader) -> str:
    digest = hashlib.sha256()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        digest.update(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return digest.hexdigest()


FRAMINGS = pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
SPEEDS = pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])


def framing(chunked: bool) -> bytes:
    return b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (BODY_MB * MB)


@FRAMINGS
@SPEEDS
async def test_a_large_response_arrives_in_bounded_memory(worker: Worker, chunked: bool, slow: bool) -> None:
    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await connection.send(b"HTTP/1.1 200 OK\r\n" + framing(chunked) + b"\r\n\r\n")
            await send_body(connection.writer, growth, chunked=chunked)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        growth = Growth(worker)
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            assert b" 200 " in await client.reader.readuntil(b"\r\n\r\n")
            if chunked:
                if slow:
                    await asyncio.sleep(0.5)
                assert await digest_of_chunks(client.reader) == DIGEST
            else:
                pause_every = 8 * MB if slow else 0
                assert await digest_of(client.reader, BODY_MB * MB, pause_every=pause_every) == DIGEST
        growth.check()


@FRAMINGS
@SPEEDS
async def test_a_large_request_arrives_in_bounded_memory(worker: Worker, chunked: bool, slow: bool) -> None:
    async def script(connection: BackendConnection) -> None:
        while await connection.head():
            if slow:
                await asyncio.sleep(0.5)
            if chunked:
                digest = await digest_of_chunks(connection.reader)
            else:
                pause_every = 8 * MB if slow else 0
                digest = await digest_of(connection.reader, BODY_MB * MB, pause_every=pause_every)
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + digest.encode())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        growth = Growth(worker)
        async with await RawClient.connect(worker.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing(chunked) + b"\r\n\r\n")
            await send_body(client.writer, growth, chunked=chunked)
            answer = await client.receive()
            assert answer.body.decode() == DIGEST
        growth.check()


async def test_a_client_that_never_reads_is_cut_off_in_bounded_memory(worker: Worker) -> None:
    ended = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        try:
            while await connection.request():
                await connection.send(b"HTTP/1.1 200 OK\r\n" + framing(False) + b"\r\n\r\n")
                await send_body(connection.writer, growth, chunked=False)
        finally:
            ended.set()

    async with scripted_backend(script) as backend:
        settings = Settings(timeouts=Timeouts(read_s=1.0))
        await worker.serve(traffic(backend.port, settings=settings))
        growth = Growth(worker)
        async with await RawClient.connect(worker.port) as client:
            client.writer.transport.pause_reading()
            await client.send(get())
            async with asyncio.timeout(30):
                await ended.wait()
        growth.check()


async def test_a_client_that_pipelines_and_never_reads_is_not_served_without_end(worker: Worker) -> None:
    served = 0
    body = b"x" * 10_000

    async def script(connection: BackendConnection) -> None:
        nonlocal served
        while await connection.request():
            served += 1
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + body)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(read_s=1.0))))
        growth = Growth(worker)
        async with await RawClient.connect(worker.port) as client:
            client.writer.transport.pause_reading()
            flood = asyncio.create_task(client.send(get() * 200_000))
            # The connection's end ends the flood.
            await asyncio.wait([flood], timeout=30)
            client.writer.transport.resume_reading()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(client.reader.readexactly(10_000 * 200_000), 60)
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
        growth.check()
        # What fits in the kernel's buffers, but not all of it.
        assert served < 200_000


async def test_a_client_that_pipelines_and_never_reads_is_not_refused_without_end_either(
    worker: Worker,
) -> None:
    await worker.serve(traffic(settings=Settings(timeouts=Timeouts(read_s=30.0))))
    growth = Growth(worker)
    async with await RawClient.connect(worker.port) as client:
        client.writer.transport.pause_reading()
        flood = asyncio.create_task(client.send(get() * 1_000_000))
        await worker.wait_for(lambda: worker.beats)
        answered = -1
        while answered != worker.beats[-1].requests:
            answered, beats = worker.beats[-1].requests, len(worker.beats)
            await worker.wait_for(lambda beats=beats: len(worker.beats) >= beats + 2)
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
    growth.check()
    assert answered < 1_000_000


@pytest.mark.real_time
async def test_a_slow_but_steady_client_is_not_cut_off(worker: Worker) -> None:
    """It takes several times `read_s` to make room for as much as the proxy wants to see."""
    size = 16 * MB

    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(16):
                await connection.send(BLOCK)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(read_s=1.0))))
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        sock.connect(("127.0.0.1", worker.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=32 * 1024)
        async with RawClient(reader, writer) as client:
            await client.send(get())
            await client.reader.readuntil(b"\r\n\r\n")
            got = 0
            while got < size:
                block = await client.reader.read(32 * 1024)
                assert block, f"cut off after {got} bytes"
                got += len(block)
                if got < MB:
                    await asyncio.sleep(0.2)


async def test_a_backend_that_never_reads_the_request_is_a_504(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        connection.writer.transport.pause_reading()
        await asyncio.sleep(60)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(read_s=1.0))))
        growth = Growth(worker)
        async with await RawClient.connect(worker.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing(False) + b"\r\n\r\n")
            sending = asyncio.create_task(send_body(client.writer, growth, chunked=False))
            answer = await client.receive()
            assert answer.status == 504
            assert answer.proxy_status == "weldr; error=connection_write_timeout"
            assert answer.get("connection") == "close"
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        growth.check()


async def test_an_early_response_is_passed_on_while_the_request_is_still_sent(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        growth = Growth(worker)
        async with await RawClient.connect(worker.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing(False) + b"\r\n\r\n")
            sending = asyncio.create_task(send_body(client.writer, growth, chunked=False))
            answer = await client.receive()
            assert (answer.status, answer.body) == (413, b"no")
            assert answer.get("connection") == "close"
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        growth.check()
