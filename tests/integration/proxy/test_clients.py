"""Clients that are slow, old, impatient or gone."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from tests.support.backends import BackendConnection, answering_backend, response, scripted_backend
from tests.support.http import IncompleteResponseError, RawClient, get, request
from tests.support.worker import Worker, running_worker, traffic
from weldr.model.values import Settings, Timeouts

MANY = 20


def quick(**timeouts: float) -> Settings:
    return Settings(timeouts=Timeouts(**timeouts))


async def test_a_client_that_shuts_its_side_still_gets_its_answer(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await asyncio.sleep(0.3)
        await connection.send(response())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            client.writer.write_eof()
            assert (await client.receive()).body == b"ok"
            assert await client.is_closed()


async def test_pipelined_requests_before_the_shutdown_are_all_answered(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get() * MANY)
            client.writer.write_eof()
            for _ in range(MANY):
                assert (await client.receive()).body == b"ok"
            assert await client.is_closed()


async def test_a_request_that_ends_too_early_is_a_400_and_never_complete_for_the_backend(
    worker: Worker,
) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()

    async def script(connection: BackendConnection) -> None:
        received = await connection.head()
        assert received is not None
        ends.put_nowait("begun")
        try:
            await connection.body(received)
            ends.put_nowait("complete")
        except (asyncio.IncompleteReadError, ConnectionError):
            ends.put_nowait("cut off")

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        for framing, part in (("Content-Length: 10", b"abc"), ("Transfer-Encoding: chunked", b"3\r\nabc\r\n")):
            async with await RawClient.connect(worker.port) as client:
                await client.send(f"POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode() + part)
                assert await asyncio.wait_for(ends.get(), 30) == "begun"
                client.writer.write_eof()
                assert (await client.receive()).status == 400
                assert await client.is_closed()
            assert await asyncio.wait_for(ends.get(), 30) == "cut off"


async def test_a_client_that_goes_away_takes_its_request_with_it(worker: Worker) -> None:
    ended = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while True:
                await connection.send(b"x" * 100)
                await asyncio.sleep(0.02)
        finally:
            ended.set()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await client.reader.readuntil(b"x")
        async with asyncio.timeout(30):
            await ended.wait()
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 0)


async def test_a_client_that_goes_away_while_its_backend_is_connected_to_harms_nobody(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        for _ in range(MANY):
            async with await RawClient.connect(worker.port) as client:
                await client.send(get())
        assert (await request(worker.port, get())).status == 200
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 0)


async def test_a_head_that_does_not_come_in_time_is_a_408(worker: Worker) -> None:
    await worker.serve(traffic(settings=quick(client_head_s=0.5)))
    async with await RawClient.connect(worker.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        answer = await client.receive()
        assert (answer.status, answer.get("connection")) == (408, "close")
        assert await client.is_closed()


async def test_a_head_that_trickles_in_is_a_408_all_the_same(worker: Worker) -> None:
    await worker.serve(traffic(settings=quick(client_head_s=1.0)))
    async with await RawClient.connect(worker.port) as client:
        trickle = asyncio.create_task(_trickle(client, b"GET / HTTP/1.1\r\nX: " + b"a" * 1000))
        assert (await client.receive()).status == 408
        trickle.cancel()


async def _trickle(client: RawClient, data: bytes) -> None:
    for byte in data:
        await client.send(bytes([byte]))
        await asyncio.sleep(0.05)


async def test_a_connection_without_any_request_is_closed_silently(worker: Worker) -> None:
    await worker.serve(traffic(settings=quick(client_head_s=0.5)))
    async with await RawClient.connect(worker.port) as client:
        assert await client.is_closed()


async def test_an_idle_connection_is_closed_silently(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=quick(client_idle_s=0.5)))
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get())).status == 200
            assert await client.is_closed()


async def test_a_body_that_stalls_is_a_408(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=quick(read_s=0.5)))
        async with await RawClient.connect(worker.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            assert (await client.receive()).status == 408
            assert await client.is_closed()


async def test_http_1_0_clients_are_served_with_and_without_keep_alive(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(b"GET / HTTP/1.0\r\n\r\n")
            assert (answer.body, answer.get("connection")) == (b"ok", "close")
            assert await client.is_closed()
        async with await RawClient.connect(worker.port) as client:
            for _ in range(3):
                answer = await client.exchange(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                assert (answer.body, answer.get("connection")) == (b"ok", "keep-alive")
            assert (await client.exchange(b"GET / HTTP/1.0\r\n\r\n")).get("connection") == "close"
            assert await client.is_closed()


async def test_expect_100_continue_goes_end_to_end(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        while received := await connection.head():
            assert received.get("expect") == "100-continue"
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await connection.body(received)
            await connection.send(response(body))

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            for body in (b"one", b"two"):
                await client.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
                )
                assert b" 100 " in await client.reader.readuntil(b"\r\n\r\n")
                assert (await client.exchange(body)).body == body


async def test_a_backend_that_speaks_http_10_need_not_answer_an_expectation(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        received = await connection.request()
        assert received is not None
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n" + (received.body or b"get"))

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get())).body == b"get"
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            async with asyncio.timeout(20):
                assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await client.exchange(b"one")).body == b"one"


async def test_an_expectation_may_be_refused_without_the_body(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.head()
        await connection.send(response(b"no", status="417 Expectation Failed"))
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            answer = await client.receive()
            # Nobody can tell whether the body still comes.
            assert (answer.status, answer.get("connection")) == (417, "close")
            assert await client.is_closed()


async def test_responses_are_streamed_and_not_collected(worker: Worker) -> None:
    go_on = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await go_on.wait()
        await connection.send(b"data: 2\n\n")

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            async with asyncio.timeout(30):
                await client.reader.readuntil(b"data: 1\n\n")
            go_on.set()
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"


async def test_requests_are_streamed_and_not_collected(worker: Worker) -> None:
    first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(connection: BackendConnection) -> None:
        await connection.head()
        first.set_result(await connection.reader.readexactly(3))
        await connection.reader.readexactly(3)
        await connection.send(response())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            async with asyncio.timeout(30):
                assert await first == b"abc"
            assert (await client.exchange(b"def")).status == 200


async def test_many_clients_each_get_their_own_responses(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        while received := await connection.request():
            await asyncio.sleep(0.001 * (hash(received.target) % 5))
            await connection.send(response(received.target.encode() * 50))

    async def one(number: int) -> None:
        async with await RawClient.connect(worker.port) as client:
            for turn in range(20):
                path = f"/{number}/{turn}"
                assert (await client.exchange(get(path))).body == path.encode() * 50

    async with scripted_backend(script) as first, scripted_backend(script) as second:
        await worker.serve(traffic(first.port, second.port))
        await asyncio.gather(*(one(number) for number in range(50)))


async def test_clients_that_say_nothing_more_take_little_memory(worker: Worker) -> None:
    """By a fifth of what is promised of 10,000: less than 80 MB in all."""
    count = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * count)), hard))
    clients: list[RawClient] = []
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        await request(worker.port, get())
        before = worker.rss_bytes
        try:
            for number in range(count):
                clients.append(await RawClient.connect(worker.port))
                await clients[-1].exchange(get("/", "a", "User-Agent: idle", f"Cookie: id={number}"))
            assert worker.rss_bytes - before < (80_000_000 - before) * count / 10_000
        finally:
            for client in clients:
                client.reset()


async def test_an_ipv6_client_is_named_to_the_backend(tmp_path: Path) -> None:
    async with running_worker(tmp_path / "log", host="::1") as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port, "::1") as client:
            assert (await client.exchange(b"GET / HTTP/1.0\r\n\r\n")).status == 200
        assert backend.received[0].get("x-forwarded-for") == "::1"
        assert backend.received[0].get("host") == f"[::1]:{worker.port}"


async def test_an_ipv4_client_of_an_ipv6_socket_is_named_by_its_ipv4_address(tmp_path: Path) -> None:
    async with running_worker(tmp_path / "log", host="::") as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port, "127.0.0.1") as client:
            assert (await client.exchange(get())).status == 200
        assert backend.received[0].get("x-forwarded-for") == "127.0.0.1"


async def test_a_response_in_progress_is_cut_when_the_body_of_its_request_turns_out_malformed(
    worker: Worker,
) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            await client.reader.readuntil(b"ab")
            await client.send(b"zzz\r\n")
            with pytest.raises((ConnectionResetError, IncompleteResponseError)):
                await client.reader.readexactly(8)
