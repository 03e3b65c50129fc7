"""What is sent again to another backend, and what never is."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import tries as react
from tests.support.backends import BackendConnection, answering_backend, response
from tests.support.http import RawClient, Response, get, request
from tests.support.ports import free_port
from tests.support.tries import Tries, backends, until_ended
from tests.support.worker import Worker, traffic
from weldr.model.health import Ejection
from weldr.model.resilience import Retries, RetryBudget
from weldr.model.values import Backend, Service

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
UNHARMED = Ejection(consecutive_failures=0, minimum_requests=0)
"""Or failing backends would be ejected, and no other be left."""


def error(answer: Response) -> tuple[int, str | None]:
    return answer.status, answer.proxy_status


def retries(**policy: object) -> Service:
    return Service(retries=Retries(**policy), ejection=UNHARMED)  # type: ignore[arg-type]


async def test_a_request_is_retried_once_by_default(worker: Worker) -> None:
    tries = Tries(react.status(503, b"1"), react.status(503, b"2"), react.status(503, b"3"))
    async with backends(tries, 3) as ports:
        await worker.serve(traffic(*ports))
        answer = await request(worker.port, get())
    assert (answer.status, answer.body) == (503, b"2")
    assert len(set(tries.ports)) == len(tries.ports) == 2


async def test_each_try_goes_to_another_backend(worker: Worker) -> None:
    tries = Tries(react.status(503), react.reset, react.status(504))
    async with backends(tries, 4) as ports:
        await worker.serve(traffic(*ports, policy=retries(attempts=3)))
        assert (await request(worker.port, get())).status == 200
    assert sorted(tries.ports) == sorted(ports)


async def test_without_another_backend_the_answer_is_the_clients(worker: Worker) -> None:
    tries = Tries(react.status(503, b"mine"))
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=retries(attempts=3)))
        assert (await request(worker.port, get())).body == b"mine"
    assert len(tries.received) == 1


async def test_the_retried_statuses_are_those_of_the_policy(worker: Worker) -> None:
    tries = Tries(react.status(500), react.status(503))
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(statuses=(500,))))
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get())).status == 503
            assert (await client.exchange(get())).status == 200
    assert len(tries.received) == 3


async def test_no_attempts_are_no_retries(worker: Worker) -> None:
    tries = Tries(react.status(503), react.reset)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(attempts=0)))
        assert (await request(worker.port, get())).status == 503
        assert (await request(worker.port, get())).status == 502
    assert len(tries.received) == 2


async def test_a_retry_has_the_same_request_id(worker: Worker) -> None:
    tries = Tries(react.status(503))
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports))
        assert (await request(worker.port, get())).status == 200
    first, second = tries.received
    assert first.raw_head == second.raw_head


async def test_a_response_that_has_begun_is_not_retried(worker: Worker) -> None:
    tries = Tries(react.then_reset(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"))
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            with pytest.raises(ConnectionError):
                await client.receive_rest()
    assert len(tries.received) == 1


async def test_the_connection_of_a_discarded_answer_is_kept_if_it_is_complete(worker: Worker) -> None:
    tries = Tries(react.status(503), react.ok, react.ok, react.ok)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(3):
                assert (await client.exchange(get())).body == b"ok"
    assert len({id(each) for each in tries.connections}) == 2


async def test_the_rest_of_a_discarded_answer_reaches_nobody(worker: Worker) -> None:
    tries = Tries(react.answer(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nforei"))
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(5):
                assert (await client.exchange(get())).body == b"ok"
        await until_ended(tries.connections[0])


@pytest.mark.real_time
async def test_the_budget_bounds_what_is_sent_again(worker: Worker) -> None:
    policy = retries(budget=RetryBudget(share=0.2, minimum=2), pause_s=0.0)
    async with (
        answering_backend(response(b"no", status="503 No")) as first,
        answering_backend(response(b"no", status="503 No")) as second,
    ):
        await worker.serve(traffic(first.port, second.port, policy=policy))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(100):
                assert (await client.exchange(get())).status == 503
        again = len(first.received) + len(second.received) - 100
    # The share grows with the requests, and so is reached at each moment but for rounding.
    assert 18 <= again <= 20


async def test_without_a_budget_nothing_is_sent_again(worker: Worker) -> None:
    tries = Tries(react.status(503), react.reset)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(budget=RetryBudget(share=0, minimum=0))))
        assert (await request(worker.port, get())).status == 503
        assert (await request(worker.port, get())).status == 502
    assert len(tries.received) == 2


async def test_a_refused_connection_costs_nothing_of_the_budget(worker: Worker) -> None:
    async with answering_backend() as backend:
        policy = retries(attempts=0, budget=RetryBudget(share=0, minimum=0))
        await worker.serve(traffic(free_port(), backend.port, policy=policy))
        for data in (get(), POST, get(), POST):
            assert (await request(worker.port, data)).status == 200


@pytest.mark.real_time
async def test_a_client_that_leaves_during_the_pause_takes_the_retry_along(worker: Worker) -> None:
    tries = Tries(*[react.status(503)] * 20)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(pause_s=3, longest_pause_s=3)))
        clients = [await RawClient.connect(worker.port) for _ in range(8)]
        for client in clients:
            await client.send(get())
        await tries.until(8)
        for client in clients:
            client.reset()
        beats = len(worker.beats)
        await worker.wait_for(lambda: len(worker.beats) >= beats + 4)
        assert worker.beats[-1].in_flight == 0
    # The pause of one or another may have been over before its client left.
    assert len(tries.received) < 12


async def test_a_retry_passes_over_the_backend_that_failed_whatever_its_weight(worker: Worker) -> None:
    async with answering_backend(response(b"no", status="503 No")) as heavy, answering_backend() as light:
        await worker.serve(
            traffic(
                Backend(host="127.0.0.1", port=heavy.port, weight=1000),
                Backend(host="127.0.0.1", port=light.port, weight=1),
                policy=retries(),
            )
        )
        async with await RawClient.connect(worker.port) as client:
            for _ in range(8):
                assert (await client.exchange(get())).status == 200
    assert len(heavy.received) >= 7


@pytest.mark.real_time
async def test_a_try_that_takes_too_long_is_given_up_for_another(worker: Worker) -> None:
    tries = Tries(react.hang)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(per_try_s=0.3)))
        began_s = asyncio.get_running_loop().time()
        assert (await request(worker.port, get())).status == 200
        assert asyncio.get_running_loop().time() - began_s >= 0.3
        await until_ended(tries.connections[0])
    assert sorted(tries.ports) == sorted(ports)


@pytest.mark.real_time
async def test_each_try_has_its_own_time(worker: Worker) -> None:
    async def slow_refusal(connection: BackendConnection) -> None:
        await asyncio.sleep(0.4)
        await connection.send(response(b"no", status="503 No"))

    async def slow_answer(connection: BackendConnection) -> None:
        await asyncio.sleep(0.4)
        await connection.send(response())

    tries = Tries(slow_refusal, slow_answer)
    async with backends(tries, 3) as ports:
        await worker.serve(traffic(*ports, policy=retries(per_try_s=0.7, attempts=1, pause_s=0.0)))
        assert (await request(worker.port, get())).status == 200


@pytest.mark.real_time
async def test_when_all_tries_take_too_long_it_is_a_504(worker: Worker) -> None:
    tries = Tries(react.hang, react.hang)
    async with backends(tries, 3) as ports:
        await worker.serve(traffic(*ports, policy=retries(per_try_s=0.1)))
        assert error(await request(worker.port, get())) == (504, "weldr; error=http_response_timeout")
    assert len(tries.received) == 2


async def test_the_time_for_a_try_is_not_for_what_cannot_be_sent_again(worker: Worker) -> None:
    answered = asyncio.Event()
    tries = Tries(react.late(answered))
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(per_try_s=0.05)))
        asked = asyncio.create_task(request(worker.port, POST))
        await tries.until(1)
        await asyncio.sleep(0.3)
        answered.set()
        assert (await asked).status == 200
    assert len(tries.received) == 1


@pytest.mark.real_time
async def test_a_response_that_has_begun_in_time_may_take_as_long_as_it_likes(worker: Worker) -> None:
    async def slowly(connection: react.BackendConnection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.6)
        await connection.send(b"cd")

    tries = Tries(slowly)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=retries(per_try_s=0.3)))
        assert (await request(worker.port, get())).body == b"abcd"
    assert len(tries.received) == 1
