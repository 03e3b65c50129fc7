"""A balancer that is dear to change is changed bit by bit, and nobody who has left is picked meanwhile."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proxy.balancing.backends import Backend, backends, name_of, seeded, within_the_bound
from weldr.proxy.balancing.consistent_hash import ConsistentHash
from weldr.proxy.balancing.unhurried import Unhurried

KEYS = [(number * 0x9E3779B97F4A7C15) % (1 << 64) for number in range(200)]


def ring() -> ConsistentHash[Backend]:
    return ConsistentHash(name_of, 1000.0, seeded().random)


def mapping(balancer: ConsistentHash[Backend] | Unhurried[Backend]) -> list[Backend | None]:
    return [balancer.pick((), key) for key in KEYS]


changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 9), st.integers(1, 4)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("catch_up"), st.integers(0, 3), st.just(0)),
    ),
    max_size=40,
)


@given(changes)
def test_at_any_moment_all_who_are_in_and_nobody_else_can_be_picked_and_in_the_end_the_map_is_the_others(
    steps: list[tuple[str, int, int]],
) -> None:
    members = backends(10)
    unhurried, weights = Unhurried(ring(), seeded().random), dict[Backend, int]()
    for what, number, weight in steps:
        if what == "put":
            unhurried.put(members[number], 64 * weight)
            weights[members[number]] = 64 * weight
        elif what == "remove":
            unhurried.remove(members[number])
            weights.pop(members[number], None)
        else:
            unhurried.catch_up(number)
        for key in KEYS[:5]:
            picked = unhurried.pick((), key)
            assert (picked in weights) if weights else picked is None
            others = [each for each in weights if each is not picked]
            assert unhurried.pick(others, key) is picked
            assert picked is None or unhurried.pick([picked], key) in (others or [None])
    unhurried.catch_up(100)
    assert not unhurried.is_behind
    direct = ring()
    for member, weight in weights.items():
        direct.put(member, weight)
    assert mapping(unhurried) == mapping(direct)


def test_until_most_have_come_all_get_their_share() -> None:
    members = backends(20)
    unhurried = Unhurried(ring(), seeded().random)
    for member in members:
        unhurried.put(member, 64)
    unhurried.catch_up(3)
    counts = Counter(unhurried.pick((), KEYS[number % 200]) for number in range(20_000))
    within_the_bound(counts, [(member, 1) for member in members])  # type: ignore[arg-type]


def test_what_is_undone_in_time_needs_nothing_to_be_done() -> None:
    members = backends(2)
    unhurried = Unhurried(ring())
    for member in members:
        unhurried.put(member, 64)
    unhurried.catch_up(2)
    unhurried.remove(members[0])
    assert unhurried.is_behind
    unhurried.put(members[0], 64)
    assert not unhurried.is_behind
