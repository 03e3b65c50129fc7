"""The end of a worker: nothing that was accepted, or is under way, is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backends import BackendConnection, answering_backend, response, scripted_backend
from tests.support.http import IncompleteResponseError, RawClient, get
from tests.support.worker import LIMIT_S, Worker, running_worker, traffic


def by_frame(worker: Worker) -> None:
    worker.drain()


def by_the_managers_death(worker: Worker) -> None:
    worker.writer.close()


End = Callable[[Worker], None]
ENDS = pytest.mark.parametrize("end", [by_frame, by_the_managers_death])


@ENDS
async def test_a_request_in_flight_is_finished(worker: Worker, end: End) -> None:
    gate = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await gate.wait()
            await connection.send(response())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 1)
            end(worker)
            await asyncio.sleep(0.2)
            gate.set()
            answer = await client.receive()
            assert (answer.body, answer.get("connection")) == (b"ok", "close")
            assert await client.is_closed()
        assert await worker.wait() == 0


@ENDS
async def test_idle_connections_do_not_hold_it_up(worker: Worker, end: End) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with (
            await RawClient.connect(worker.port) as client,
            await RawClient.connect(worker.port) as silent,
        ):
            await client.exchange(get())
            end(worker)
            assert await client.is_closed()
            assert await silent.is_closed()
            assert await worker.wait() == 0


async def test_it_ends_at_once_when_nothing_is_open(worker: Worker) -> None:
    await worker.serve(traffic())
    worker.drain()
    assert await worker.wait() == 0


async def test_it_ends_without_ever_having_been_sent_an_update(worker: Worker) -> None:
    await worker.wait_for(lambda: worker.beats)
    worker.drain()
    assert await worker.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_is_for_the_manager(worker: Worker, number: int) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        worker.process.send_signal(number)
        beats = len(worker.beats)
        await worker.wait_for(lambda: len(worker.beats) >= beats + 2)
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get())).status == 200


async def test_a_client_that_always_sends_its_next_request_ahead_is_told_of_the_end(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await asyncio.sleep(0.02)
            await connection.send(response())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get() * 3)
            worker.drain(grace_s=30.0)
            while (answer := await client.receive()).get("connection") != "close":
                assert (answer.status, answer.body) == (200, b"ok")
                await client.send(get())
            assert answer.body == b"ok"
            assert await client.is_closed()
        assert await worker.wait() == 0


async def test_the_last_response_is_whole_although_the_next_request_comes_before_it_is_read(
    worker: Worker,
) -> None:
    body = b"x" * 100_000
    gate = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await gate.wait()
            await connection.send(response(body))

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        with socket.socket() as client:
            # Of the response most waits at the worker's side.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", worker.port))
            client.sendall(get())
            await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 1)
            worker.drain()
            await asyncio.sleep(0.2)
            gate.set()
            await asyncio.sleep(0.2)
            client.sendall(get())
            await asyncio.sleep(0.2)
            client.setblocking(False)
            seen = b""
            async with asyncio.timeout(LIMIT_S):
                while data := await asyncio.get_running_loop().sock_recv(client, 1 << 16):
                    seen += data
        assert seen.endswith(b"\r\n\r\n" + body)
        assert await worker.wait() == 0


async def test_when_the_grace_is_over_what_is_left_is_cut(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await client.reader.readuntil(b"ok")
            worker.drain(grace_s=0.5)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await client.reader.readexactly(8)
        assert await worker.wait() == 0


async def test_connections_that_are_queued_when_it_begins_are_accepted_and_answered(worker: Worker) -> None:
    async with answering_backend() as backend:
        # Before the first update nothing is accepted, so these are surely queued.
        clients = [await RawClient.connect(worker.port) for _ in range(50)]
        await worker.wait_for(lambda: worker.beats)
        worker.process.send_signal(signal.SIGSTOP)
        worker.send(traffic(backend.port))
        worker.drain()
        for client in clients:
            await client.send(get())
        worker.process.send_signal(signal.SIGCONT)
        for client in clients:
            assert (await client.receive()).body == b"ok"
            client.writer.close()
        assert await worker.wait() == 0


async def test_no_request_is_lost_when_workers_are_replaced_under_load(tmp_path: Path) -> None:
    """Clients go on to the next worker when theirs tells them to, and not one request fails."""
    stop = asyncio.Event()
    served = 0
    ports: list[int] = []

    async def load() -> None:
        nonlocal served
        while not stop.is_set():
            async with await RawClient.connect(ports[-1]) as client:
                while not stop.is_set():
                    try:
                        answer = await client.exchange(get())
                    except IncompleteResponseError as error:
                        raise AssertionError("a request was lost") from error
                    assert answer.status == 200
                    served += 1
                    if answer.get("connection") == "close":
                        break

    async with contextlib.AsyncExitStack() as stack:
        backend = await stack.enter_async_context(answering_backend())
        loads: list[asyncio.Task[None]] = []
        old: Worker | None = None
        for number in range(4):
            new = await stack.enter_async_context(running_worker(tmp_path / f"log{number}"))
            await new.serve(traffic(backend.port))
            ports.append(new.port)
            if old is None:
                loads = [asyncio.create_task(load()) for _ in range(20)]
            else:
                old.drain()
                assert await old.wait() == 0
            enough = served + 50
            await new.wait_for(lambda: served >= enough)  # noqa: B023
            old = new
        stop.set()
        await asyncio.gather(*loads)
