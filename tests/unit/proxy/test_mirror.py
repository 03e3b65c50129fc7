"""Copies of requests, whatever the policy of the service that they go to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.support.memory_worker import OK, MemoryWorker
from weldr.model.balancing import Balance
from weldr.model.health import Ejection
from weldr.model.routes import Mirror, Route
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend, Service
from weldr.proxy.health import State

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
DAY_S = 86_400.0


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def test_a_service_balanced_by_latency_gets_copies_on_a_machine_that_has_run_for_long(loop: MemoryLoop) -> None:
    loop.advance(DAY_S)
    worker = MemoryWorker(loop, Service(balance=Balance(policy="peak_ewma")), backends=2)
    worker.warm([worker.client(), worker.client()])
    route = Route(service="default", mirror=Mirror(service="default"))
    worker.context.fleet.apply(TrafficDelta(routes={"mirrored": route}))
    client = worker.client()
    # Costs are compared where two different backends are drawn: in twenty draws they are.
    for _ in range(20):
        for link in worker.links:
            link.received.clear()
        client.received.clear()
        client.deliver(REQUEST)
        loop.settle()
        got = [link for link in worker.links if link.received.startswith(b"GET / ")]
        assert len(got) == 2
        for link in got:
            link.deliver(OK % (4, b"good"))
        loop.settle()
        assert client.received.endswith(b"good")
    assert worker.context.counters.faults == 0
    assert worker.context.mirrored == 0
    assert worker.context.fleet.connections()[0] == 0


def test_a_backend_that_gets_nothing_but_copies_is_in_again_when_it_answers_them(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    shadow = {f"s{number}": Backend(host=f"10.2.0.{number}", port=80) for number in (1, 2)}
    fleet = worker.context.fleet
    fleet.apply(
        TrafficDelta(
            services={"shadow": ServiceDelta(policy=None, put=shadow, removed=[])},
            routes={"mirrored": Route(service="default", mirror=Mirror(service="shadow"))},
        )
    )
    pool = fleet.table.services["shadow"].members[0]
    while pool.health.state is State.IN:
        pool.failed(loop.time(), "the backend refused the connection")
    worker.pass_time(Ejection().first_s + 1)
    assert pool.health.state is State.TRIAL
    client = worker.client()
    for _ in range(4):
        client.deliver(REQUEST)
        loop.settle()
        for link in worker.links:
            if link.received:
                link.received.clear()
                link.deliver(OK % (4, b"good"))
        loop.settle()
    worker.pass_time(1)
    assert pool.health.state is State.IN
