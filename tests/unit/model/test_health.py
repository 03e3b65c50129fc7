"""Health policies that make no sense are refused, and the place is named."""

from __future__ import annotations

import json

import pytest

from weldr.model.decode import Fault, decode
from weldr.model.health import Ejection, HealthCheck
from weldr.model.keys import Kind
from weldr.model.values import Service


def service(**value: object) -> object:
    return decode(Kind.SERVICE, json.dumps(value).encode())


def test_an_empty_check_has_the_defaults() -> None:
    decoded = service(health={})
    assert isinstance(decoded, Service)
    check = decoded.health
    assert check is not None
    assert (check.type, check.method, check.path, check.status) == ("http", "GET", "/", "200-399")
    assert (check.interval_s, check.timeout_s, check.fall, check.rise) == (10.0, 2.0, 3, 2)
    assert not check.require_check


def test_without_a_key_nobody_is_asked_but_failing_backends_are_spared() -> None:
    assert Service().health is None
    assert Service().ejection == Ejection(consecutive_failures=5, max_share=0.5, first_s=10, longest_s=300)


@pytest.mark.parametrize(
    ("value", "place", "said"),
    [
        ({"health": {"path": "/a b"}}, "$.health.path", "without spaces"),
        ({"health": {"path": "health"}}, "$.health.path", "expected a slash"),
        ({"health": {"path": "/é"}}, "$.health.path", "ASCII"),
        ({"health": {"path": "/" + "a" * 2000}}, "$.health.path", "at most 1024"),
        ({"health": {"method": "GE T"}}, "$.health.method", "no HTTP method"),
        ({"health": {"method": "CONNECT"}}, "$.health.method", "use GET"),
        ({"health": {"host": "a\r\nX: y"}}, "$.health.host", "no host"),
        ({"health": {"status": "2xx"}}, "$.health.status", "200-399"),
        ({"health": {"status": ""}}, "$.health.status", "200-399"),
        ({"health": {"body": ""}}, "$.health.body", "1 to 1024"),
        ({"health": {"interval_s": 0}}, "$.health.interval_s", ">= 0.1"),
        ({"health": {"timeout_s": -1}}, "$.health.timeout_s", ">= 0.01"),
        ({"health": {"fall": 0}}, "$.health.fall", ">= 1"),
        ({"health": {"rise": 0}}, "$.health.rise", ">= 1"),
        ({"health": {"type": "ping"}}, "$.health.type", "ping"),
        ({"health": {"port": 70000}}, "$.health.port", "65535"),
        ({"ejection": {"max_share": 1.5}}, "$.ejection.max_share", "<= 1"),
        ({"ejection": {"first_s": 0}}, "$.ejection.first_s", ">= 0.1"),
        ({"ejection": {"failure_rate": 0}}, "$.ejection.failure_rate", "> 0"),
        ({"panic_below": -0.1}, "$.panic_below", ">= 0"),
        ({"expired_grace_s": -1}, "$.expired_grace_s", ">= 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(value: dict[str, object], place: str, said: str) -> None:
    fault = service(**value)
    assert isinstance(fault, Fault)
    assert fault.place == place
    assert said in fault.reason


@pytest.mark.parametrize(
    ("statuses", "good", "bad"),
    [
        ("200-399", (200, 301, 399), (199, 400, 503)),
        ("204", (204,), (200, 205)),
        ("200,418-419", (200, 419), (201,)),
    ],
)
def test_statuses_and_ranges_are_accepted(statuses: str, good: tuple[int, ...], bad: tuple[int, ...]) -> None:
    check = HealthCheck(status=statuses)
    assert all(map(check.accepts, good))
    assert not any(map(check.accepts, bad))
