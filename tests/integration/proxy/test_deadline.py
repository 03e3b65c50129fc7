"""The time for a whole request: told to the backend, and kept in whatever state it runs out."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.support import tries as react
from tests.support.backends import BackendConnection, answering_backend, echo_tunnel, response, scripted_backend
from tests.support.http import RawClient, Response, get, request
from tests.support.tries import Tries, backends, until_ended
from tests.support.worker import Worker, traffic
from weldr.model.resilience import Deadline
from weldr.model.values import Service, UpstreamLimits, UpstreamTimeouts

NAME = "X-Request-Timeout-Ms"


def deadline(total_s: float, header: str = NAME) -> Service:
    return Service(deadline=Deadline(total_s=total_s, header=header))


def is_late(answer: Response) -> bool:
    return answer.status == 504 and b"longer than it may in all" in answer.body


@pytest.mark.parametrize("header", [NAME, "Patience"])
async def test_the_backend_is_told_what_is_left(worker: Worker, header: str) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, policy=deadline(60.0, header)))
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        for data in (get(), post):
            assert (await request(worker.port, data)).status == 200
    for received in backend.received:
        assert 40_000 < int(received.get(header) or 0) <= 60_000
    assert backend.received[1].body == b"abc"


async def test_without_a_deadline_the_field_is_the_clients_affair(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, get("/", "a", f"{NAME}: 1"))).status == 200
    assert backend.received[0].get(NAME) == "1"


@pytest.mark.parametrize(
    ("sent", "low", "high"),
    [
        ("30000", 10_000, 30_000),
        ("90000", 40_000, 60_000),
        ("-1", 40_000, 60_000),
        ("1e9", 40_000, 60_000),
        ("", 40_000, 60_000),
        ("9999999999999999999", 40_000, 60_000),
        ("\xb2\xb3", 40_000, 60_000),
    ],
)
async def test_a_client_may_shorten_it_and_no_more(worker: Worker, sent: str, low: int, high: int) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, policy=deadline(60.0)))
        data = get("/", "a", "X-A: 1", f"{NAME.lower()}: {sent}", "X-B: 2")
        assert (await request(worker.port, data)).status == 200
    (received,) = backend.received
    assert low < int(received.get(NAME) or 0) <= high
    assert (received.get("x-a"), received.get("x-b")) == ("1", "2")


async def test_it_runs_out_while_the_response_is_awaited(worker: Worker) -> None:
    tries = Tries(react.hang)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=deadline(0.3)))
        async with await RawClient.connect(worker.port) as client:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            assert is_late(await client.exchange(get()))
            assert 0.3 <= loop.time() - began_s < 15
            await until_ended(tries.connections[0])
            # The connection goes on.
            await worker.serve(traffic(*ports))
            assert (await client.exchange(get())).status == 200
    assert len(tries.received) == 2


async def test_it_runs_out_while_the_request_waits_for_its_turn(worker: Worker) -> None:
    tries = Tries(react.hang)
    async with backends(tries, 1) as ports:
        policy = Service(
            deadline=Deadline(total_s=1.0),
            limits=UpstreamLimits(backend_connections=1),
            timeouts=UpstreamTimeouts(connect_s=60),
        )
        await worker.serve(traffic(*ports, policy=policy))
        answers = await asyncio.gather(*(request(worker.port, get()) for _ in range(2)))
        assert all(is_late(answer) for answer in answers)
        await worker.serve(traffic(*ports, policy=msgspec.structs.replace(policy, deadline=None)))
        assert (await request(worker.port, get())).status == 200
    assert len(tries.received) == 2


@pytest.mark.real_time
async def test_it_runs_out_within_the_response(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            await connection.send(b"x")
            await asyncio.sleep(0.05)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, policy=deadline(0.5)))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            with pytest.raises(ConnectionError):
                await client.receive_rest()


@pytest.mark.real_time
async def test_a_response_in_time_is_whole_and_the_next_request_has_its_own_time(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, policy=deadline(0.5)))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(4):
                assert (await client.exchange(get())).body == b"ok"
                await asyncio.sleep(0.25)
    assert all(int(received.get(NAME) or 0) > 300 for received in backend.received)


async def test_a_retry_has_what_is_left(worker: Worker) -> None:
    async def slow_refusal(connection: BackendConnection) -> None:
        await asyncio.sleep(0.3)
        await connection.send(response(status="503 No"))

    tries = Tries(slow_refusal)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=deadline(60.0)))
        assert (await request(worker.port, get())).status == 200
    first, second = [int(received.get(NAME) or 0) for received in tries.received]
    assert second <= first - 290


@pytest.mark.real_time
async def test_a_tunnel_is_not_bound_by_it(worker: Worker) -> None:
    async with scripted_backend(echo_tunnel) as backend:
        await worker.serve(traffic(backend.port, policy=deadline(0.3)))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(get("/", "a", "Connection: Upgrade", "Upgrade: x"))
            for _ in range(3):
                await asyncio.sleep(0.2)
                await client.send(b"a")
                assert await client.reader.readexactly(1) == b"a"


async def test_only_the_services_own_deadline_speaks_against_a_backend(worker: Worker) -> None:
    tries = Tries(*[react.hang] * 40)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=deadline(0.2)))
        for _ in range(12):
            assert is_late(await request(worker.port, get("/", "a", f"{NAME}: 20")))
        beats = len(worker.beats)
        await worker.wait_for(lambda: len(worker.beats) >= beats + 2)
        assert not worker.sparing
        for _ in range(12):
            assert is_late(await request(worker.port, get()))
        await worker.wait_for(lambda: worker.sparing and worker.sparing[-1].spared)
