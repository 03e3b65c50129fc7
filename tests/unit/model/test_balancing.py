"""The member `balance` of a service's value: what is taken, and where a fault is."""

from __future__ import annotations

import json

import pytest

from weldr.model.balancing import HashBy
from weldr.model.decode import Fault, decode
from weldr.model.keys import Kind
from weldr.model.values import Service, StickyKey


def decoded(balance: object) -> Service | Fault:
    value = decode(Kind.SERVICE, json.dumps({"balance": balance}).encode())
    assert isinstance(value, Service | Fault)
    return value


def test_without_it_backends_take_turns_and_nothing_binds_a_client() -> None:
    value = decode(Kind.SERVICE, b"{}")
    assert isinstance(value, Service)
    assert value.balance.policy == "round_robin"
    assert value.balance.sticky is None
    assert value.balance.slow_start_s == 0
    assert value.balance.prefer_zone


@pytest.mark.parametrize(
    "balance",
    [
        *({"policy": policy} for policy in ("round_robin", "least_requests", "random", "peak_ewma")),
        {"policy": "consistent_hash", "hash_by": {"header": "X-User"}, "hash_bound": 1},
        {"hash_by": {"cookie": "sid"}},
        {"hash_by": {"path": True}},
        {"sticky": {}},
        {"sticky": {"cookie": "__Host-b", "secure": True, "same_site": "none", "max_age_s": 60, "drain_s": 0}},
        {"slow_start_s": 30, "prefer_zone": False, "zone_enough": 1},
    ],
)
def test_good_values_are_taken(balance: object) -> None:
    assert isinstance(decoded(balance), Service)


def test_the_hash_is_made_from_the_clients_address_if_nothing_else_is_said() -> None:
    value = decoded({"policy": "consistent_hash"})
    assert isinstance(value, Service)
    assert value.balance.hash_by == HashBy(client=True)


@pytest.mark.parametrize(
    ("balance", "place", "reason"),
    [
        ({"policy": "fastest"}, "$.balance.policy", "Invalid enum value 'fastest'"),
        ({"polcy": "random"}, "$.balance", "polcy"),
        ({"hash_by": {}}, "$.balance.hash_by", "exactly one of header, cookie, client and path, got none"),
        ({"hash_by": {"header": "A", "path": True}}, "$.balance.hash_by", "got header and path"),
        ({"hash_by": {"client": False}}, "$.balance.hash_by", "got none"),
        ({"hash_by": {"header": "X User"}}, "$.balance.hash_by.header", "'X User' is no name of a header"),
        ({"hash_by": {"cookie": "a=b"}}, "$.balance.hash_by.cookie", "'a=b' is no name of a cookie"),
        ({"hash_bound": 0.5}, "$.balance.hash_bound", ">= 1"),
        ({"sticky": {"cookie": "a\r\nb"}}, "$.balance.sticky.cookie", "no name of a cookie"),
        ({"sticky": {"cookie": "__Secure-a"}}, "$.balance.sticky.cookie", "without `secure`"),
        ({"sticky": {"same_site": "none"}}, "$.balance.sticky.same_site", "without `secure`"),
        ({"sticky": {"same_site": "Lax"}}, "$.balance.sticky.same_site", "Lax"),
        ({"sticky": {"max_age_s": 0}}, "$.balance.sticky.max_age_s", ">= 1"),
        ({"sticky": {"drain_s": -1}}, "$.balance.sticky.drain_s", ">= 0"),
        ({"slow_start_s": -1}, "$.balance.slow_start_s", ">= 0"),
        ({"zone_enough": 0}, "$.balance.zone_enough", "> 0"),
    ],
)
def test_a_fault_is_told_with_its_place(balance: object, place: str, reason: str) -> None:
    fault = decoded(balance)
    assert isinstance(fault, Fault)
    assert fault.place == place
    assert reason in fault.reason
    assert "\n" not in fault.reason


def test_the_key_for_sticky_cookies_is_base64_and_never_shown() -> None:
    value = decode(Kind.STICKY_KEY, b'{"key": "MDEyMzQ1Njc4OWFiY2RlZg=="}')
    assert isinstance(value, StickyKey)
    assert value.key == b"0123456789abcdef"
    assert "0123456789abcdef" not in repr(value)
    for bad in (b'{"key": "MDEy"}', b'{"key": "not base64, and secret"}', b"secret", b'{"key": 1}'):
        fault = decode(Kind.STICKY_KEY, bad)
        assert isinstance(fault, Fault)
        assert "secret" not in fault.reason
