"""Weighted round robin: shares, smoothness, exclusion, changes, cost."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proxy.balancing.backends import seeded
from weldr.proxy.balancing.round_robin import RoundRobin


def balancer(members: list[tuple[str, int]], seed: int = 1) -> RoundRobin[str]:
    chosen: RoundRobin[str] = RoundRobin(seeded(seed).random)
    for member, weight in members:
        chosen.put(member, weight)
    return chosen


def picks(members: list[tuple[str, int]], count: int) -> list[str | None]:
    chosen = balancer(members)
    return [chosen.pick(()) for _ in range(count)]


@pytest.mark.parametrize("weight", [1, 7])
def test_equal_members_take_turns_whatever_weight_they_have(weight: int) -> None:
    chosen = picks([("a", weight), ("b", weight), ("c", weight)], 9)
    assert sorted(chosen[:3], key=str) == ["a", "b", "c"]
    assert chosen == chosen[:3] * 3


def test_there_is_nobody_among_nobody() -> None:
    assert picks([], 1) == [None]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=10), st.integers(0, 1000))
def test_in_every_round_each_gets_its_share(weights: list[int], seed: int) -> None:
    members = [(str(position), weight) for position, weight in enumerate(weights)]
    chosen = balancer(members, seed)
    rounds = 50
    counts = Counter(chosen.pick(()) for _ in range(rounds * sum(weights)))
    for name, weight in members:
        assert abs(counts[name] - rounds * weight) <= 2


@given(st.lists(st.integers(1, 20), min_size=2, max_size=10), st.integers(0, 1000))
def test_picks_are_spread_evenly_at_any_time(weights: list[int], seed: int) -> None:
    """Of any stretch of picks each has its share, but for a few: what makes it smooth."""
    members = [(str(position), weight) for position, weight in enumerate(weights)]
    chosen = balancer(members, seed)
    stretch = sum(weights)
    history = [chosen.pick(()) for _ in range(5 * stretch)]
    for start in range(0, 4 * stretch, 3):
        counts = Counter(history[start : start + stretch])
        for name, weight in members:
            assert abs(counts[name] - weight) <= 2 + len(set(weights))


def test_the_picks_of_a_heavy_member_are_spread() -> None:
    chosen = picks([("a", 5), ("b", 1), ("c", 1)], 70)
    gaps = [later - earlier for earlier, later in pairwise(i for i, each in enumerate(chosen) if each == "b")]
    assert all(5 <= gap <= 9 for gap in gaps)
    longest = max(len(run) for run in "".join(each or "" for each in chosen).replace("c", "b").split("b"))
    assert longest <= 5


def test_new_balancers_do_not_all_begin_with_the_same_member() -> None:
    members = [(str(number), 1) for number in range(10)]
    assert len({balancer(members, seed).pick(()) for seed in range(200)}) == 10
    unequal = [(str(number), 1 + number % 2) for number in range(10)]
    assert len({balancer(unequal, seed).pick(()) for seed in range(200)}) > 5


@pytest.mark.parametrize("weights", [(1, 1, 1), (1_000_000, 1, 2)])
def test_excluded_members_are_not_picked(weights: tuple[int, int, int]) -> None:
    chosen = balancer(list(zip("abc", weights, strict=True)))
    for _ in range(10):
        assert chosen.pick(["a"]) in ("b", "c")
        assert chosen.pick(["a", "b"]) == "c"
        assert chosen.pick(["a", "b", "c"]) is None


changes = st.tuples(st.sampled_from("abcdef"), st.integers(0, 5), st.integers(0, 7))


@given(st.lists(changes, max_size=40), st.integers(0, 1000))
def test_whatever_was_changed_shares_are_those_of_the_weights_from_then_on(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    chosen = balancer([], seed)
    weights: dict[str, int] = {}
    for name, weight, some in steps:
        if weight:
            chosen.put(name, weight)
            weights[name] = weight
        else:
            chosen.remove(name)
            weights.pop(name, None)
        for _ in range(some):
            assert (chosen.pick(()) in weights) == bool(weights)
    rounds = 20
    counts = Counter(chosen.pick(()) for _ in range(rounds * sum(weights.values())))
    for name, weight in weights.items():
        assert abs(counts[name] - rounds * weight) <= 3


def test_a_weight_that_changes_again_and_again_leaves_nothing_behind() -> None:
    chosen = balancer([(name, 1) for name in "abcd"])
    for number in range(10_000):
        chosen.put("a", 2 + number % 50)
        chosen.pick(())
    assert len(chosen._heap) < 50


def test_a_pick_and_a_change_among_ten_thousand_are_cheap() -> None:
    chosen = balancer([(str(number), 1 + number % 7) for number in range(10_000)])
    before_s = time.process_time()
    for number in range(1000):
        chosen.pick(())
        chosen.put(str(number), 1 + (number + 1) % 7)
    # A scan of all members would take about a second.
    assert time.process_time() - before_s < 0.2
