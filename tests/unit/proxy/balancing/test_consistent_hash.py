"""Consistent hashing: whose keys move, shares, the same answer everywhere, bounded load."""

from __future__ import annotations

import time
from collections import Counter
from hashlib import blake2b

import pytest

from tests.unit.proxy.balancing.backends import Backend, backends, name_of, seeded
from weldr.proxy.balancing.consistent_hash import ConsistentHash

KEYS = [int.from_bytes(blake2b(b"key %d" % number, digest_size=8).digest(), "big") for number in range(6_000)]


def balancer(
    members: list[Backend], weights: list[int] | None = None, bound: float = 1.5
) -> ConsistentHash[Backend]:
    chosen = ConsistentHash(name_of, bound, seeded().random)
    for member, weight in zip(members, weights or [128] * len(members), strict=True):
        chosen.put(member, weight)
    return chosen


def homes(chosen: ConsistentHash[Backend], keys: list[int] = KEYS) -> list[Backend | None]:
    return [chosen.pick((), key) for key in keys]


@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_when_one_of_n_leaves_only_its_own_keys_move(count: int) -> None:
    members = backends(count)
    chosen = balancer(members)
    before = homes(chosen)
    for member in members[:5]:
        chosen.remove(member)
        after = homes(chosen)
        moved = [(old, new) for old, new in zip(before, after, strict=True) if old is not new]
        assert {old for old, _ in moved} == {member}
        assert len(moved) / len(KEYS) <= 1 / count + 0.05
        chosen.put(member, 128)
        assert homes(chosen) == before


@pytest.mark.parametrize("weights", [[1, 2, 3, 4, 5], [10, 1000, 30, 17, 400], [1, 1, 1, 8, 8]])
def test_shares_follow_the_weights_and_none_but_the_own_keys_move(weights: list[int]) -> None:
    members = backends(len(weights))
    chosen = balancer(members, [weight * 128 for weight in weights])
    before = homes(chosen)
    counts = Counter(before)
    for member, weight in zip(members, weights, strict=True):
        share = weight / sum(weights)
        # Four deviations, of up to 6% each.
        assert counts[member] / len(KEYS) == pytest.approx(share, rel=0.24, abs=0.005)
    for member in members:
        chosen.remove(member)
        assert {old for old, new in zip(before, homes(chosen), strict=True) if old is not new} == {member}
        chosen.put(member, weights[members.index(member)] * 128)


def test_keys_are_spread_evenly() -> None:
    members = backends(20)
    counts = Counter(homes(balancer(members)))
    mean = len(KEYS) / 20
    deviation = (sum((counts[member] - mean) ** 2 for member in members) / 20) ** 0.5
    assert deviation < 0.12 * mean  # 4%, and what chance adds


def test_who_came_first_makes_no_difference() -> None:
    members = backends(30)
    straight, other = balancer(members), ConsistentHash(name_of, 1.5, seeded(5).random)
    extra = Backend("extra")
    other.put(extra, 700)
    for member in reversed(members):
        other.put(member, 50)
        other.put(member, 128)
    other.remove(extra)
    assert homes(straight) == homes(other)


def test_one_that_is_excluded_or_full_is_passed_over_and_the_same_next_one_is_taken() -> None:
    members = backends(10)
    chosen = balancer(members)
    home = chosen.pick((), KEYS[0])
    assert home is not None
    second = chosen.pick([home], KEYS[0])
    assert second not in (None, home)
    home.in_flight, home.limit = 3, 3
    assert chosen.pick((), KEYS[0]) is second
    for member in members:
        member.limit = member.in_flight
    assert chosen.pick((), KEYS[0]) is home
    assert chosen.pick(members, KEYS[0]) is None


def test_the_load_of_a_key_that_all_ask_for_is_bounded() -> None:
    members = backends(10)
    chosen = balancer(members, bound=1.5)
    for _ in range(1000):
        member = chosen.pick((), KEYS[0])
        assert member is not None
        member.in_flight += 1
    assert max(member.in_flight for member in members) <= 1.5 * 100 + 1
    first = chosen.pick((), KEYS[0])
    for member in members:
        member.in_flight = 0
    assert chosen.pick((), KEYS[0]) is not None
    assert first is not None


def test_little_load_is_no_reason_to_leave_the_own_backend() -> None:
    members = backends(10)
    chosen = balancer(members, bound=1.0)
    home = chosen.pick((), KEYS[0])
    assert home is not None
    home.in_flight = 7
    assert chosen.pick((), KEYS[0]) is home
    home.in_flight = 8
    assert chosen.pick((), KEYS[0]) is not home


def test_the_load_is_bounded_by_a_sample_where_there_are_many() -> None:
    members = backends(1000)
    chosen = balancer(members, bound=1.5)
    for member in members:
        member.in_flight = 20
    home = chosen.pick((), KEYS[0])
    assert home is not None
    home.in_flight = 40
    assert chosen.pick((), KEYS[0]) is not home


def test_requests_without_a_key_are_spread() -> None:
    members = backends(5)
    chosen = balancer(members)
    assert len({chosen.pick(()) for _ in range(200)}) == 5
    assert ConsistentHash(name_of, 1.5).pick((), 1) is None


def test_a_change_among_two_thousand_is_cheap() -> None:
    members = backends(2000)
    chosen = balancer(members)
    before_s = time.process_time()
    for member in members[:100]:
        chosen.remove(member)
        chosen.put(member, 128)
    # To build it anew takes a tenth of a second each time.
    assert (time.process_time() - before_s) / 200 < 0.005
