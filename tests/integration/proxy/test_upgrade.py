"""Upgrades: a tunnel if the backend says 101, an ordinary exchange if it does not."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from tests.support.backends import BackendConnection, answering_backend, response, scripted_backend
from tests.support.http import RawClient, get
from tests.support.worker import Worker, traffic
from weldr.model.values import Settings, Timeouts

UPGRADE = get("/ws", "a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: def\r\n\r\n"
)
MB = 1024 * 1024


async def echo(connection: BackendConnection) -> None:
    """Switches, then sends back what it gets, until the other side has ended."""
    while received := await connection.request():
        if received.get("upgrade") is None:
            await connection.send(response())
            continue
        assert received.get("connection") == "Upgrade"
        await connection.send(SWITCH)
        while data := await connection.reader.read(65536):
            await connection.send(data)
        await connection.send(b"bye")
        return


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_an_accepted_upgrade_becomes_a_tunnel(worker: Worker, bytewise: bool) -> None:
    async with scripted_backend(echo) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(UPGRADE, bytewise=bytewise)
            assert answer.status == 101
            assert answer.get("upgrade") == "websocket"
            assert answer.get("connection") == "Upgrade"
            assert answer.get("sec-websocket-accept") == "def"
            for data in (b"one", b"\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"three"):
                await client.send(data, bytewise=bytewise)
                assert await client.reader.readexactly(len(data)) == data


async def test_bytes_sent_along_with_the_upgrade_reach_the_other_side(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(SWITCH + b"early")
        await connection.send(await connection.reader.readexactly(5))

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(UPGRADE + b"hasty")
            assert answer.status == 101
            assert await client.reader.readexactly(10) == b"earlyhasty"


async def test_a_half_closed_tunnel_goes_on_the_other_way(worker: Worker) -> None:
    async with scripted_backend(echo) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(UPGRADE)
            await client.send(b"last")
            client.writer.write_eof()
            assert await client.receive_rest() == b"lastbye"


async def test_a_tunnel_half_closed_by_the_backend_goes_on_from_the_client(worker: Worker) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(SWITCH)
        connection.writer.write_eof()
        got.set_result(await connection.reader.read())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(UPGRADE)
            assert await client.receive_rest() == b""
            await client.send(b"still here")
            client.writer.write_eof()
            async with asyncio.timeout(30):
                assert await got == b"still here"


async def test_a_tunnel_is_cut_on_both_sides_when_one_is_reset(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(SWITCH)
        await connection.reader.readexactly(1)
        connection.reset()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(UPGRADE)
            await client.send(b"x")
            with pytest.raises(ConnectionResetError):
                await client.receive_rest()


async def test_a_tunnel_holds_back_a_fast_side_for_a_slow_one(worker: Worker) -> None:
    size_mb = 64
    block = os.urandom(MB)

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(SWITCH)
        for _ in range(size_mb):
            await connection.send(block)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            before = worker.rss_bytes
            await client.exchange(UPGRADE)
            await asyncio.sleep(0.5)
            digest = hashlib.sha256(await client.reader.readexactly(MB))
            assert worker.rss_bytes - before < 16 * MB
            for _ in range(size_mb - 1):
                digest.update(await client.reader.readexactly(MB))
            assert digest.digest() == hashlib.sha256(block * size_mb).digest()


async def test_a_side_of_a_tunnel_that_never_reads_is_cut_off(worker: Worker) -> None:
    ended = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(SWITCH)
        try:
            while True:
                await connection.send(b"x" * MB)
        finally:
            ended.set()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(read_s=0.5))))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(UPGRADE)
            client.writer.transport.pause_reading()
            async with asyncio.timeout(30):
                await ended.wait()


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_a_declined_upgrade_is_an_ordinary_exchange(worker: Worker, bytewise: bool) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            # The next request is already there: it must not be taken for the tunnel's.
            await client.send(UPGRADE + get("/next"), bytewise=bytewise)
            assert (await client.receive()).status == 200
            assert (await client.receive()).status == 200
            assert (await client.exchange(UPGRADE)).status == 200
    assert [received.target for received in backend.received] == ["/ws", "/next", "/ws"]
    assert len(backend.connections) == 1


async def test_a_tunnel_outlives_updates_that_leave_its_backend_and_the_backends_departure(
    worker: Worker,
) -> None:
    async with scripted_backend(echo) as backend, answering_backend() as other:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(UPGRADE)
            for catalog in (
                traffic(backend.port, other.port),
                traffic(backend.port),
                traffic(),
                traffic(other.port),
            ):
                await worker.serve(catalog)
                await client.send(b"ping")
                assert await client.reader.readexactly(4) == b"ping"
        assert worker.applied[-1].in_flight == [("default", "b1", 1)]
        await worker.wait_for(lambda: worker.in_flight and worker.in_flight[-1] == [])
