"""The fuzzer, for a few seconds and with the same scenarios each time; `scripts/fuzz` runs it for longer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.cases import CASES
from tests.fuzz.checks import check
from tests.fuzz.pieces import check_pieces
from tests.fuzz.scenario import Answer, Client, Scenario
from tests.fuzz.scenarios import clients, eventful_scenarios, scenarios
from tests.fuzz.transport import End
from tests.fuzz.world import World
from weldr.model.resilience import AdaptiveConcurrency, CircuitBreaker, Hedging, Retries
from weldr.model.values import Service, UpstreamLimits

short = settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("case", CASES)
def test_what_was_found_once(case: str) -> None:
    check(World(CASES[case]).play())


@short
@given(scenarios)
def test_nothing_that_is_sent_breaks_a_promise(scenario: Scenario) -> None:
    check(World(scenario).play())


EVERYTHING = Service(
    limits=UpstreamLimits(requests_in_flight=2, backend_connections=1, pending_requests=2),
    retries=Retries(attempts=3, per_try_s=0.8, pause_s=0.0),
    hedging=Hedging(percentile=50, minimum_s=0.4),
    circuit_breaker=CircuitBreaker(minimum_requests=2, open_s=1.0),
    adaptive_concurrency=AdaptiveConcurrency(initial=2, minimum=1),
)


@short
@given(eventful_scenarios)
def test_no_policy_breaks_a_promise_either(scenario: Scenario) -> None:
    check(World(scenario, EVERYTHING).play())


@short
@given(clients)
def test_pieces_make_no_difference(client: Client) -> None:
    check_pieces(client)


def test_good_requests_are_answered() -> None:
    # A world in which nothing arrived would keep every promise.
    requests = (
        b"GET /r0 HTTP/1.1\r\nHost: a\r\n\r\nPOST /r1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    )
    answer = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"one", cuts=b"\x09\x09")
    world = World(Scenario((Client(requests, cuts=b"\x01\x07\x30"),), (answer,))).play()
    check(world)
    (client,) = world.clients
    assert bytes(client.transport.received).count(b"HTTP/1.1 200 OK\r\n") == 2
    assert client.transport.end is End.FIN
    assert [each.request.target for each in world.forwarded] == [b"/r0", b"/r1"]
    assert bytes(world.forwarded[1].body) == b"abc"
