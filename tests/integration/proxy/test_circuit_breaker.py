"""A service that fails gets no requests for a while, and then a few on trial."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import tries as react
from tests.support.backends import BackendConnection, answering_backend, response, scripted_backend
from tests.support.http import RawClient, Response, get, request
from tests.support.tries import Tries, backends
from tests.support.worker import Worker, traffic
from weldr.model.health import Ejection
from weldr.model.resilience import CircuitBreaker, Retries
from weldr.model.values import Backend, Route, Service


def breaking(open_s: float = 60.0, trials: int = 2, attempts: int = 0, minimum_requests: int = 4) -> Service:
    return Service(
        circuit_breaker=CircuitBreaker(minimum_requests=minimum_requests, open_s=open_s, trials=trials),
        retries=Retries(attempts=attempts),
        ejection=Ejection(consecutive_failures=0, minimum_requests=0),
    )


def is_refused(answer: Response) -> bool:
    return answer.status == 503 and b"too many requests to the service default have failed" in answer.body


async def test_it_opens_and_answers_at_once_with_the_time_to_come_back(worker: Worker) -> None:
    async with answering_backend(response(b"no", status="500 No")) as backend:
        await worker.serve(traffic(backend.port, policy=breaking()))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(4):
                assert (await client.exchange(get())).status == 500
            for data in (get(), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"):
                answer = await client.exchange(data)
                assert is_refused(answer)
                assert 40 <= int(answer.get("retry-after") or 0) <= 60
    assert len(backend.received) == 4
    await worker.wait_for(lambda: "too many requests to a service fail" in worker.log)


async def test_without_a_policy_it_never_opens(worker: Worker) -> None:
    async with answering_backend(response(b"no", status="500 No")) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(40):
                assert (await client.exchange(get())).status == 500
    assert len(backend.received) == 40


@pytest.mark.real_time
async def test_it_lets_a_few_through_on_trial_and_closes_when_they_succeed(worker: Worker) -> None:
    gate = asyncio.Event()
    tries = Tries(*[react.status(500)] * 4, react.late(gate), react.late(gate))
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=breaking(open_s=0.5)))
        for _ in range(4):
            assert (await request(worker.port, get())).status == 500
        assert is_refused(await request(worker.port, get()))
        await asyncio.sleep(0.6)
        trials = [asyncio.create_task(request(worker.port, get())) for _ in range(2)]
        await tries.until(6)
        assert is_refused(await request(worker.port, get()))
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*trials)] == [200, 200]
        for _ in range(10):
            assert (await request(worker.port, get())).status == 200
    await worker.wait_for(lambda: "a service that failed works again" in worker.log)


@pytest.mark.real_time
async def test_a_trial_that_fails_opens_it_again(worker: Worker) -> None:
    tries = Tries(*[react.status(500)] * 5)
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=breaking(open_s=0.5, trials=1)))
        for _ in range(4):
            assert (await request(worker.port, get())).status == 500
        await asyncio.sleep(0.6)
        assert (await request(worker.port, get())).status == 500
        assert is_refused(await request(worker.port, get()))
        await asyncio.sleep(0.6)
        assert (await request(worker.port, get())).status == 200
    assert len(tries.received) == 6


@pytest.mark.real_time
async def test_a_trial_whose_client_leaves_makes_room_for_another(worker: Worker) -> None:
    tries = Tries(*[react.status(500)] * 4, react.hang)
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=breaking(open_s=0.5, trials=1)))
        for _ in range(4):
            assert (await request(worker.port, get())).status == 500
        await asyncio.sleep(0.6)
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await tries.until(5)
            assert is_refused(await request(worker.port, get()))
            client.reset()
            await asyncio.wait_for(tries.connections[4].ended.wait(), 30)
        assert (await request(worker.port, get())).status == 200


async def test_lost_connections_and_refused_ones_count_as_failures(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        connection.reset()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, policy=breaking()))
        for _ in range(2):
            assert (await request(worker.port, get())).status == 502
        await backend.stop_listening()
        for _ in range(2):
            assert (await request(worker.port, get())).status == 502
        assert is_refused(await request(worker.port, get()))


async def test_no_request_is_sent_again_to_a_service_whose_circuit_is_open(worker: Worker) -> None:
    tries = Tries(*[react.status(503)] * 10)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=breaking(minimum_requests=3, attempts=1)))
        assert not is_refused(await request(worker.port, get()))
        assert len(tries.received) == 2
        # The first try opens it.
        assert not is_refused(await request(worker.port, get()))
        assert is_refused(await request(worker.port, get()))
    assert len(tries.received) == 3


async def test_the_circuit_of_one_service_is_no_others(worker: Worker) -> None:
    async with answering_backend(response(b"no", status="500 No")) as failing, answering_backend() as good:
        await worker.serve(
            traffic(
                failing.port,
                services={"good": {"b": Backend(host="127.0.0.1", port=good.port)}},
                routes={"r": Route(service="good", host="good")},
                policy=breaking(),
            )
        )
        for _ in range(6):
            await request(worker.port, get())
        assert is_refused(await request(worker.port, get()))
        assert (await request(worker.port, get("/", "good"))).status == 200


async def test_a_change_of_another_part_of_the_policy_does_not_close_it(worker: Worker) -> None:
    async with answering_backend(response(b"no", status="500 No")) as backend:
        await worker.serve(traffic(backend.port, policy=breaking()))
        for _ in range(4):
            assert (await request(worker.port, get())).status == 500
        await worker.serve(traffic(backend.port, policy=breaking(attempts=2)))
        assert is_refused(await request(worker.port, get()))
        await worker.serve(traffic(backend.port, policy=breaking(open_s=30)))
        assert (await request(worker.port, get())).status == 500
