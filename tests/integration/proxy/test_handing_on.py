"""A worker whose listening sockets others take over, or that is to take them over: see docs/architecture.md."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

from tests.support.backends import answering_backend
from tests.support.http import RawClient, get
from tests.support.worker import Worker, traffic
from weldr.model.frames import Accept, Drain, Standby, encode_frame


async def test_in_standby_it_serves_the_catalog_and_accepts_nothing(worker: Worker) -> None:
    async with answering_backend() as backend:
        worker.writer.write(encode_frame(Standby()))
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            seen = len(worker.beats)
            await worker.wait_for(lambda: len(worker.beats) >= seen + 2)
            assert worker.beats[-1].connections == 0
            worker.writer.write(encode_frame(Accept()))
            assert (await client.receive()).status == 200


async def test_a_socket_that_is_handed_on_stays_open_with_its_queue(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        worker.process.send_signal(signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", worker.port), timeout=30) for _ in range(8)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        worker.writer.write(encode_frame(Drain(10.0, [0], patient=True)))
        worker.process.send_signal(signal.SIGCONT)
        assert await worker.wait() == 0
        # It may have accepted some before it read the order. The others wait for whoever has the socket, and so
        # do those that come now.
        clients.append(socket.create_connection(("127.0.0.1", worker.port), timeout=30))
        worker.listener.setblocking(False)
        left = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = worker.listener.accept()
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                connection.close()
                left += 1
        assert left >= 1
        for client in clients:
            with client:
                assert client.recv(64).startswith(b"HTTP/1.1 200")


async def test_a_patient_drain_waits_for_the_last_request_of_idle_clients(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with (
            await RawClient.connect(worker.port) as client,
            await RawClient.connect(worker.port) as silent,
        ):
            await client.exchange(get())
            await silent.exchange(get())
            worker.writer.write(encode_frame(Drain(60.0, [0], patient=True)))
            # Longer than an idle client has in any other drain.
            await asyncio.sleep(2.0)
            answer = await client.exchange(get())
            assert (answer.status, answer.get("connection")) == (200, "close")
            assert await client.is_closed()
            # An order with less time may follow: then nobody waits for the silent one.
            worker.drain(10.0)
            assert await silent.is_closed()
        assert await worker.wait() == 0


async def test_a_patient_drain_ends_at_its_limit(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as silent:
            await silent.exchange(get())
            worker.writer.write(encode_frame(Drain(3.0, [0], patient=True)))
            assert await silent.is_closed()
        assert await worker.wait() == 0
