"""What a request holds of its service's limits, while other things change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.support.memory_worker import OK, MemoryWorker
from weldr.model.resilience import AdaptiveConcurrency, CircuitBreaker
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Service, UpstreamLimits
from weldr.proxy.breaker import State

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FAILED = b"HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def on_trial(worker: MemoryWorker) -> None:
    """Have the circuit opened by a failure, and a request sent on trial."""
    client = worker.client()
    client.deliver(REQUEST)
    worker.loop.settle()
    link = next(link for link in worker.links if link.received)
    link.received.clear()
    link.deliver(FAILED)
    worker.loop.settle()
    worker.pass_time(2)
    worker.client().deliver(REQUEST)
    worker.loop.settle()


def breaker(trials: int) -> CircuitBreaker:
    return CircuitBreaker(minimum_requests=1, open_s=1.0, trials=trials)


def test_a_trial_of_a_circuit_breaker_says_nothing_about_the_next_one(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(circuit_breaker=breaker(2)), backends=1)
    on_trial(worker)
    [earlier] = [link for link in worker.links if link.received]
    worker.context.fleet.apply(
        TrafficDelta(
            services={"default": ServiceDelta(policy=Service(circuit_breaker=breaker(1)), put={}, removed=[])}
        )
    )
    guard = worker.context.fleet.table.services["default"].guard
    assert guard.breaker is not None
    assert guard.breaker.state is State.CLOSED
    earlier.received.clear()
    on_trial(worker)
    assert guard.breaker.state is State.HALF_OPEN
    earlier.deliver(OK % (4, b"good"))
    loop.settle()
    assert guard.breaker.state is State.HALF_OPEN


def test_streams_do_not_fill_the_adaptive_limit(loop: MemoryLoop) -> None:
    worker = MemoryWorker(
        loop, Service(adaptive_concurrency=AdaptiveConcurrency(initial=5, minimum=5)), backends=1
    )
    for _ in range(5):
        worker.client().deliver(REQUEST)
        loop.settle()
        [link] = [link for link in worker.links if link.received]
        link.received.clear()
        link.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        loop.settle()
    waiting = worker.client()
    waiting.deliver(REQUEST)
    loop.settle()
    assert not any(link.received for link in worker.links)
    worker.pass_time(1.5)
    [link] = [link for link in worker.links if link.received]
    link.deliver(OK % (4, b"good"))
    loop.settle()
    assert waiting.received.endswith(b"good")
    pending = worker.context.fleet.table.services["default"].guard.pending
    assert (pending.in_flight, pending.answered) == (5, 5)
    for link in worker.links:
        link.deliver(b"0\r\n\r\n")
    loop.settle()
    assert (pending.in_flight, pending.answered) == (0, 0)


def test_streams_from_before_there_was_an_adaptive_limit_have_no_place_in_it(loop: MemoryLoop) -> None:
    limits = UpstreamLimits(requests_in_flight=100)
    worker = MemoryWorker(loop, Service(limits=limits), backends=1)
    for _ in range(5):
        worker.client().deliver(REQUEST)
        loop.settle()
    for link in worker.links:
        link.received.clear()
        link.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    loop.settle()
    adaptive = AdaptiveConcurrency(initial=5, minimum=5, maximum=5)
    policy = Service(limits=limits, adaptive_concurrency=adaptive)
    worker.context.fleet.apply(
        TrafficDelta(services={"default": ServiceDelta(policy=policy, put={}, removed=[])})
    )
    worker.client().deliver(REQUEST)
    loop.settle()
    assert [link for link in worker.links if link.received]
