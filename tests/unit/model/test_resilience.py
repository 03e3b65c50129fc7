"""What a service says about failures and load: what is taken, and what is refused where."""

from __future__ import annotations

import pytest

from weldr.model.decode import Fault, decode
from weldr.model.keys import Kind
from weldr.model.resilience import (
    AdaptiveConcurrency,
    CircuitBreaker,
    Deadline,
    Hedging,
    Retries,
    RetryBudget,
)
from weldr.model.values import Route, Service


def service(value: bytes) -> Service:
    found = decode(Kind.SERVICE, value)
    assert isinstance(found, Service), found
    return found


def test_the_defaults_need_no_key() -> None:
    assert service(b"{}").retries == Retries(
        attempts=1, statuses=(502, 503, 504), per_try_s=None, budget=RetryBudget(share=0.2, window_s=10)
    )
    plain = service(b"{}")
    assert (plain.hedging, plain.circuit_breaker, plain.adaptive_concurrency, plain.deadline) == (None,) * 4
    assert plain.limits.requests_in_flight is None


def test_all_that_can_be_said_is_taken() -> None:
    value = b"""{
        "retries": {"attempts": 3, "statuses": [500, 503], "per_try_s": 0.5, "pause_s": 0, "longest_pause_s": 1,
                    "budget": {"share": 0.1, "minimum": 0, "window_s": 60}},
        "hedging": {"percentile": 99.5, "minimum_s": 0.1},
        "circuit_breaker": {},
        "adaptive_concurrency": {"initial": 10, "maximum": 100},
        "deadline": {"total_s": 5, "header": "X-Deadline"},
        "limits": {"requests_in_flight": 100}
    }"""
    found = service(value)
    assert found.retries.statuses == (500, 503)
    assert found.hedging == Hedging(percentile=99.5, minimum_s=0.1)
    assert found.circuit_breaker == CircuitBreaker()
    assert found.adaptive_concurrency == AdaptiveConcurrency(initial=10, maximum=100)
    assert found.deadline == Deadline(total_s=5, header="X-Deadline")


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [
        ('{"retries": {"attempts": 4}}', "$.retries.attempts", "<= 3"),
        ('{"retries": {"attempts": "2"}}', "$.retries.attempts", "Expected `int`, got `str`"),
        ('{"retries": {"statuses": [503, 404]}}', "$.retries.statuses[1]", ">= 500"),
        ('{"retries": {"per_try_s": 0}}', "$.retries.per_try_s", ">= 0.001"),
        ('{"retries": {"pause_s": 1}}', "$.retries.longest_pause_s", "0.25 is below pause_s, which is 1"),
        ('{"retries": {"budget": {"share": 1.5}}}', "$.retries.budget.share", "<= 1"),
        ('{"retries": {"budget": {"window_s": 0}}}', "$.retries.budget.window_s", ">= 1"),
        ('{"retries": {"on": ["reset"]}}', "$.retries", "unknown field `on`"),
        ('{"hedging": {"percentile": 100}}', "$.hedging.percentile", "<= 99.9"),
        ('{"circuit_breaker": {"failure_rate": 0}}', "$.circuit_breaker.failure_rate", "> 0"),
        ('{"circuit_breaker": {"trials": 0}}', "$.circuit_breaker.trials", ">= 1"),
        ('{"circuit_breaker": true}', "$.circuit_breaker", "Expected `object | null`"),
        ('{"adaptive_concurrency": {"initial": 1}}', "$.adaptive_concurrency.initial", "1 is not from minimum"),
        (
            '{"adaptive_concurrency": {"maximum": 10}}',
            "$.adaptive_concurrency.initial",
            "50 is not from minimum",
        ),
        ('{"adaptive_concurrency": {"tolerance": 0.5}}', "$.adaptive_concurrency.tolerance", ">= 1"),
        ('{"deadline": {}}', "$.deadline", "missing required field `total_s`"),
        ('{"deadline": {"total_s": -1}}', "$.deadline.total_s", ">= 0.001"),
        ('{"deadline": {"total_s": 1, "header": "a: b"}}', "$.deadline.header", "is no header name"),
        ('{"deadline": {"total_s": 1, "header": "A\\r\\nB"}}', "$.deadline.header", "is no header name"),
        ('{"deadline": {"total_s": 1, "header": ""}}', "$.deadline.header", "is no header name"),
        ('{"deadline": {"total_s": 1, "header": "Host"}}', "$.deadline.header", "a meaning of its own"),
        (
            '{"deadline": {"total_s": 1, "header": "content-LENGTH"}}',
            "$.deadline.header",
            "a meaning of its own",
        ),
        ('{"limits": {"requests_in_flight": 0}}', "$.limits.requests_in_flight", ">= 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_its_place(value: str, place: str, reason: str) -> None:
    found = decode(Kind.SERVICE, value.encode())
    assert isinstance(found, Fault)
    assert found.place == place
    assert reason in found.reason


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [
        ('{"service": "a", "retries": {"attempts": 9}}', "$.retries.attempts", "<= 3"),
        ('{"service": "a", "retries": {"pause_s": 1}}', "$.retries.longest_pause_s", "raise it too"),
        ('{"service": "a", "retries": {"budget": {"share": 1}}}', "$.retries.budget", "belongs to the service"),
    ],
)
def test_a_routes_retries_are_refused_alike_and_have_no_budget(value: str, place: str, reason: str) -> None:
    found = decode(Kind.ROUTE, value.encode())
    assert isinstance(found, Fault)
    assert found.place == place
    assert reason in found.reason


def test_a_route_may_have_retries_of_its_own() -> None:
    found = decode(Kind.ROUTE, b'{"service": "a", "retries": {"attempts": 0}}')
    assert isinstance(found, Route)
    assert found.retries == Retries(attempts=0)
