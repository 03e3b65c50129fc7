"""A second try beside a slow first one: who wins, and what becomes of the other."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import tries as react
from tests.support.backends import response
from tests.support.http import RawClient, get, request
from tests.support.tries import Reaction, Tries, backends, until_ended
from tests.support.worker import Worker, traffic
from weldr.model.health import Ejection
from weldr.model.resilience import Hedging, Retries, RetryBudget
from weldr.model.values import Service

WARM = 30
# A request that is held up is sent to another backend, too: that is what a hedge is for.
pytestmark = pytest.mark.real_time

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


def hedging(minimum_s: float = 0.05, **retries: object) -> Service:
    return Service(
        hedging=Hedging(percentile=50, minimum_s=minimum_s),
        retries=Retries(**retries),  # type: ignore[arg-type]
        ejection=Ejection(consecutive_failures=0, minimum_requests=0),
    )


def warm_tries(*reactions: Reaction) -> Tries:
    return Tries(*[react.ok] * WARM, *reactions)


async def warm_up(worker: Worker, ports: list[int], policy: Service) -> None:
    """Let the worker learn how long requests usually take."""
    await worker.serve(traffic(*ports, policy=policy))
    async with await RawClient.connect(worker.port) as client:
        for _ in range(WARM):
            assert (await client.exchange(get("/warm"))).status == 200
    beats = len(worker.beats)
    await worker.wait_for(lambda: len(worker.beats) >= beats + 2)


async def test_a_slow_request_is_sent_to_another_backend_too_and_the_first_answer_wins(worker: Worker) -> None:
    tries = warm_tries(react.hang, react.answer(response(b"hedge")))
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        assert (await request(worker.port, get())).body == b"hedge"
        first, second = tries.ports[WARM:]
        assert first != second
        # The connection of the one that lost is closed.
        await until_ended(tries.connections[WARM])


async def test_a_hedge_that_loses_is_given_up_and_its_connection_is_not_used_again(worker: Worker) -> None:
    answered, never = asyncio.Event(), asyncio.Event()
    tries = warm_tries(react.late(answered, response(b"first")), react.late(never, response(b"foreign")))
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await tries.until(WARM + 2)
            answered.set()
            assert (await client.receive()).body == b"first"
            loser = tries.connections[WARM + 1]
            never.set()
            for _ in range(10):
                assert (await client.exchange(get())).body == b"ok"
            assert loser not in tries.connections[WARM + 2 :]
            await until_ended(loser)


async def test_a_late_answer_of_the_loser_reaches_nobody(worker: Worker) -> None:
    late = asyncio.Event()
    tries = warm_tries(react.late(late, response(b"foreign")), react.answer(response(b"hedge")))
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get())).body == b"hedge"
            late.set()
            for _ in range(10):
                assert (await client.exchange(get())).body == b"ok"
    assert tries.connections[WARM] not in tries.connections[WARM + 1 :]


async def test_a_hedge_that_outlasts_the_first_try_has_no_more_time_than_a_try(worker: Worker) -> None:
    tries = warm_tries(react.hang, react.hang, react.answer(response(b"third")))
    async with backends(tries, 3) as ports:
        await warm_up(worker, ports, hedging(per_try_s=0.5))
        assert (await request(worker.port, get())).body == b"third"
    assert len(tries.received) == WARM + 3


async def test_a_quick_request_is_sent_once(worker: Worker) -> None:
    tries = warm_tries()
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging(minimum_s=30.0))
        for _ in range(20):
            assert (await request(worker.port, get())).status == 200
    assert len(tries.received) == WARM + 20


@pytest.mark.parametrize(
    "data",
    [
        POST,
        b"PATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["POST", "PATCH", "GET with a body", "Upgrade"],
)
async def test_what_cannot_be_sent_twice_is_not_hedged(worker: Worker, data: bytes) -> None:
    answered = asyncio.Event()
    tries = warm_tries(react.late(answered))
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        asked = asyncio.create_task(request(worker.port, data))
        await tries.until(WARM + 1)
        await asyncio.sleep(0.3)
        answered.set()
        assert (await asked).status == 200
    assert len(tries.received) == WARM + 1


async def test_hedges_are_paid_from_the_budget_of_the_retries(worker: Worker) -> None:
    answered = asyncio.Event()
    tries = warm_tries(*[react.late(answered)] * 8)
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging(budget=RetryBudget(share=0.0, minimum=2)))
        asked = [asyncio.create_task(request(worker.port, get())) for _ in range(5)]
        await tries.until(WARM + 7)
        await asyncio.sleep(0.3)
        answered.set()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 5
    assert len(tries.received) == WARM + 7


async def test_there_is_one_hedge_at_most(worker: Worker) -> None:
    fail, answered = asyncio.Event(), asyncio.Event()

    async def failing(connection: react.BackendConnection) -> None:
        await fail.wait()
        connection.reset()

    # The hedge fails, then the first try does; the retry is slow, too.
    tries = warm_tries(failing, react.status(503), *[react.late(answered)] * 3)
    async with backends(tries, 5) as ports:
        await warm_up(worker, ports, hedging())
        asked = asyncio.create_task(request(worker.port, get()))
        await tries.until(WARM + 2)
        await asyncio.sleep(0.1)
        fail.set()
        await tries.until(WARM + 3)
        await asyncio.sleep(0.3)
        answered.set()
        assert (await asked).status == 200
    assert len(tries.received) == WARM + 3


@pytest.mark.parametrize("failure", ["reset", "status", "garbage"])
async def test_the_hedge_goes_on_when_the_first_try_fails(worker: Worker, failure: str) -> None:
    fail, answered = asyncio.Event(), asyncio.Event()

    async def failing(connection: react.BackendConnection) -> None:
        await fail.wait()
        if failure == "reset":
            connection.reset()
        else:
            await connection.send(
                response(b"no", status="503 No") if failure == "status" else b"garbage\r\n\r\n"
            )

    tries = warm_tries(failing, react.late(answered, response(b"hedge")))
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging(attempts=0))
        asked = asyncio.create_task(request(worker.port, get()))
        await tries.until(WARM + 2)
        fail.set()
        await asyncio.sleep(0.1)
        answered.set()
        assert (await asked).body == b"hedge"
    assert len(tries.received) == WARM + 2


@pytest.mark.parametrize("failure", [react.reset, react.status(503), react.answer(b"garbage\r\n\r\n")])
async def test_a_hedge_that_fails_leaves_the_first_try_alone(worker: Worker, failure: Reaction) -> None:
    answered = asyncio.Event()
    tries = warm_tries(react.late(answered, response(b"first")), failure)
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        asked = asyncio.create_task(request(worker.port, get()))
        await tries.until(WARM + 2)
        await asyncio.sleep(0.1)
        answered.set()
        assert (await asked).body == b"first"
    assert len(tries.received) == WARM + 2


async def test_a_client_that_leaves_takes_both_tries_along(worker: Worker) -> None:
    tries = warm_tries(react.hang, react.hang)
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await tries.until(WARM + 2)
            client.reset()
            for connection in tries.connections[WARM:]:
                async with asyncio.timeout(30):
                    await connection.ended.wait()
    await worker.wait_for(lambda: worker.beats[-1].in_flight == 0)


async def test_a_large_answer_of_a_hedge_is_whole(worker: Worker) -> None:
    body = bytes(range(256)) * 20_000
    tries = warm_tries(react.hang, react.answer(response(body)))
    async with backends(tries, 2) as ports:
        await warm_up(worker, ports, hedging())
        assert (await request(worker.port, get())).body == body
