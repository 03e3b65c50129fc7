"""What befalls the requests of a service is counted: each thing by its name, once, and for its own service."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.support import tries as react
from tests.support.backends import answering_backend, response
from tests.support.http import RawClient, get, request
from tests.support.tries import Tries, backends
from tests.support.worker import Worker, traffic
from weldr.model.health import Ejection
from weldr.model.resilience import CircuitBreaker, Deadline, Hedging, Retries, RetryBudget
from weldr.model.routes import Mirror, RateLimit, Route
from weldr.model.timeouts import UpstreamTimeouts
from weldr.model.values import Service, UpstreamLimits

NO_EJECTION = Ejection(consecutive_failures=0, minimum_requests=0)


async def counted(worker: Worker, service: str = "default") -> dict[str, int]:
    """All that was counted until now and is not zero."""
    beats = len(worker.beats)
    await worker.wait_for(lambda: len(worker.beats) >= beats + 2)
    found = msgspec.structs.asdict(worker.incidents(service))
    return {name: count for name, count in found.items() if isinstance(count, int) and count}


async def test_ordinary_requests_are_none(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        for _ in range(3):
            assert (await request(worker.port, get())).status == 200
        assert await counted(worker) == {}


async def test_retries_and_those_that_the_budget_forbids(worker: Worker) -> None:
    tries = Tries(react.status(503), react.ok, react.status(503), react.ok, react.status(503))
    policy = Service(
        retries=Retries(budget=RetryBudget(share=0.0, minimum=2), pause_s=0, longest_pause_s=0),
        ejection=NO_EJECTION,
    )
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=policy))
        assert [(await request(worker.port, get())).status for _ in range(3)] == [200, 200, 503]
        assert await counted(worker) == {"retries": 2, "budget_exhausted": 1}


async def test_what_was_lost_on_a_kept_connection_and_connections_that_cannot_be_made(worker: Worker) -> None:
    tries = Tries(react.ok, react.close)
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports))
        for _ in range(2):
            assert (await request(worker.port, get())).status == 200
        assert await counted(worker) == {"repeats": 1}
    assert (await request(worker.port, get())).status == 502
    assert (await counted(worker))["connect_failures"] == 1


@pytest.mark.real_time
async def test_hedges_and_those_that_win(worker: Worker) -> None:
    slow = asyncio.Event()
    tries = Tries(*[react.ok] * 30, react.late(slow), react.ok)
    policy = Service(hedging=Hedging(percentile=50, minimum_s=0.05), ejection=NO_EJECTION)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=policy))
        for _ in range(30):
            await request(worker.port, get())
        assert await counted(worker) == {}
        assert (await request(worker.port, get())).status == 200
        assert await counted(worker) == {"hedges": 1, "hedges_won": 1}
        slow.set()


async def test_ejections_and_wishes_for_rest(worker: Worker) -> None:
    rest = response(b"", "Retry-After: 30", status="503 Rest")
    tries = Tries(*[react.reset] * 2, react.answer(rest))
    policy = Service(
        ejection=Ejection(consecutive_failures=2, max_share=1.0), retries=Retries(attempts=0), panic_below=0.0
    )
    async with backends(tries, 3) as (only, first, second):
        await worker.serve(traffic(only, policy=policy))
        assert [(await request(worker.port, get())).status for _ in range(2)] == [502, 502]
        # The only backend of a service is never taken out.
        assert await counted(worker) == {}
        await worker.serve(traffic(first, second, policy=policy))
        assert (await request(worker.port, get())).status == 503
        assert await counted(worker) == {"rests": 1}
    for _ in range(2):
        assert (await request(worker.port, get())).status == 502
    assert (await counted(worker))["ejections"] == 1


async def test_an_open_circuit_and_whom_it_keeps_away(worker: Worker) -> None:
    policy = Service(
        circuit_breaker=CircuitBreaker(minimum_requests=2, open_s=60.0),
        retries=Retries(attempts=0),
        ejection=NO_EJECTION,
    )
    async with answering_backend(response(b"no", status="500 No")) as backend:
        await worker.serve(traffic(backend.port, policy=policy))
        assert [(await request(worker.port, get())).status for _ in range(5)] == [500, 500, 503, 503, 503]
        assert await counted(worker) == {"circuit_openings": 1, "circuit_refused": 3}
        await worker.wait_for(lambda: worker.sparing and worker.sparing[-1].open_circuits == ["default"])
        # Without the breaker it is not open.
        await worker.serve(traffic(backend.port, policy=Service(ejection=NO_EJECTION)))
        await worker.wait_for(lambda: worker.sparing[-1].open_circuits == [])


async def test_requests_that_wait_and_those_for_which_there_is_no_room(worker: Worker) -> None:
    gate = asyncio.Event()
    tries = Tries(react.late(gate))
    policy = Service(
        limits=UpstreamLimits(requests_in_flight=1, pending_requests=1), timeouts=UpstreamTimeouts(connect_s=60)
    )
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await tries.until(1)
        second = asyncio.create_task(request(worker.port, get()))
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 2)
        assert (await request(worker.port, get())).status == 503
        gate.set()
        assert [(await each).status for each in (first, second)] == [200, 200]
        assert await counted(worker) == {"queued": 1, "shed": 1}


async def test_one_that_has_waited_for_too_long_is_shed(worker: Worker) -> None:
    policy = Service(limits=UpstreamLimits(requests_in_flight=1), timeouts=UpstreamTimeouts(connect_s=0.2))
    tries = Tries(react.hang)
    async with backends(tries, 1) as ports, await RawClient.connect(worker.port) as client:
        await worker.serve(traffic(*ports, policy=policy))
        await client.send(get())
        await tries.until(1)
        assert (await request(worker.port, get())).status == 503
        assert await counted(worker) == {"queued": 1, "shed": 1}


async def test_deadlines_rate_limits_and_copies(worker: Worker) -> None:
    async with answering_backend() as backend:
        services = {"other": traffic(backend.port).services["default"].backends}
        limit = RateLimit(requests_per_s=0.001, burst=2)
        routes = {
            "limited": Route(service="other", path="/limited", rate_limit=limit),
            "copied": Route(service="other", path="/copied", mirror=Mirror(service="other")),
            "lost": Route(service="other", path="/lost", mirror=Mirror(service="nobody")),
        }
        await worker.serve(traffic(services=services, routes=routes))
        answers = [await request(worker.port, get("/limited")) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        for path in ("/copied", "/lost"):
            assert (await request(worker.port, get(path))).status == 200
        assert await counted(worker, "other") == {"rate_limited": 1, "mirrored": 1}
        assert await counted(worker, "nobody") == {"mirrors_dropped": 1}
    async with backends(Tries(react.hang), 1) as ports:
        await worker.serve(traffic(*ports, policy=Service(deadline=Deadline(total_s=0.1))))
        assert (await request(worker.port, get())).status == 504
        assert await counted(worker) == {"deadlines_passed": 1}
