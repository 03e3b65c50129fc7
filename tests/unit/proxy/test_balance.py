"""Weighted round robin: shares, smoothness, exclusion, cost."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.proxy.balance import balancer

FIRST = lambda: 0.0  # noqa: E731


def picks(members: list[tuple[str, int]], count: int) -> list[str | None]:
    chosen = balancer(members, FIRST)
    return [chosen.pick(()) for _ in range(count)]


def test_equal_members_take_turns() -> None:
    assert picks([("a", 1), ("b", 1), ("c", 1)], 7) == list("abcabca")


def test_the_weight_that_all_have_does_not_matter() -> None:
    assert picks([("a", 7), ("b", 7)], 4) == list("abab")


def test_there_is_nobody_among_nobody() -> None:
    assert picks([], 1) == [None]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=10), st.floats(0, 0.999))
def test_in_every_round_each_gets_its_share(weights: list[int], chance: float) -> None:
    members = [(str(position), weight) for position, weight in enumerate(weights)]
    chosen = balancer(members, lambda: chance)
    rounds = 50
    counts = Counter(chosen.pick(()) for _ in range(rounds * sum(weights)))
    for name, weight in members:
        assert abs(counts[name] - rounds * weight) <= 2


def test_the_picks_of_a_heavy_member_are_spread() -> None:
    chosen = picks([("a", 5), ("b", 1), ("c", 1)], 70)
    gaps = [later - earlier for earlier, later in pairwise(i for i, each in enumerate(chosen) if each == "b")]
    assert all(5 <= gap <= 9 for gap in gaps)
    longest = max(len(run) for run in "".join(each or "" for each in chosen).replace("c", "b").split("b"))
    assert longest <= 5


def test_new_balancers_do_not_all_begin_with_the_same_member() -> None:
    members = [(str(number), 1) for number in range(10)]
    assert len({balancer(members).pick(()) for _ in range(200)}) == 10
    unequal = [(str(number), 1 + number % 2) for number in range(10)]
    assert len({balancer(unequal).pick(()) for _ in range(200)}) > 5


@pytest.mark.parametrize("weights", [(1, 1, 1), (1_000_000, 1, 2)])
def test_excluded_members_are_not_picked(weights: tuple[int, int, int]) -> None:
    chosen = balancer(list(zip("abc", weights, strict=True)), FIRST)
    for _ in range(10):
        assert chosen.pick(["a"]) in ("b", "c")
        assert chosen.pick(["a", "b"]) == "c"
        assert chosen.pick(["a", "b", "c"]) is None


def test_a_pick_among_ten_thousand_is_cheap() -> None:
    chosen = balancer([(str(number), 1 + number % 7) for number in range(10_000)])
    before_s = time.process_time()
    for _ in range(1000):
        chosen.pick(())
    # A scan of all members would take about a second.
    assert time.process_time() - before_s < 0.2
