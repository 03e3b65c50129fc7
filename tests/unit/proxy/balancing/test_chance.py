"""Random, least requests and peak EWMA: shares within what chance allows, and who is preferred."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.proxy.balancing.backends import Backend, backends, seeded, within_the_bound
from weldr.proxy.balancing.balancer import Balancer
from weldr.proxy.balancing.least_requests import LeastRequests
from weldr.proxy.balancing.peak_ewma import PeakEwma
from weldr.proxy.balancing.random_choice import RandomChoice
from weldr.proxy.balancing.weighted_set import WeightedSet

PICKS = 20_000
WEIGHTS = [
    pytest.param([1, 1, 1, 1], id="equal"),
    pytest.param([3, 3, 3], id="equal, no power of two"),
    pytest.param([1, 2, 3, 4, 5, 6, 7, 8, 9], id="mixed"),
    pytest.param([1000, 1, 1, 1], id="one heavy"),
    pytest.param([1, 1_000_000, 500_000], id="far apart"),
]
POLICIES = [RandomChoice, LeastRequests, PeakEwma]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_without_load_shares_are_those_of_the_weights(
    policy: type[RandomChoice[Backend]], weights: list[int]
) -> None:
    chosen: Balancer[Backend] = policy(seeded().random)
    members = backends(len(weights))
    for member, weight in zip(members, weights, strict=True):
        chosen.put(member, weight)
    counts = Counter(got for _ in range(PICKS) if (got := chosen.pick(())) is not None)
    within_the_bound(counts, zip(members, weights, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_changed_counts_from_then_on(policy: type[RandomChoice[Backend]]) -> None:
    chosen: Balancer[Backend] = policy(seeded().random)
    members = backends(6)
    for member in members:
        chosen.put(member, 5)
    chosen.remove(members[0])
    chosen.remove(members[0])
    chosen.put(members[1], 50)
    chosen.put(members[2], 1)
    counts = Counter(got for _ in range(PICKS) if (got := chosen.pick(())) is not None)
    assert members[0] not in counts
    within_the_bound(counts, zip(members[1:], [50, 1, 5, 5, 5], strict=True))
    for member in members:
        chosen.remove(member)
    assert chosen.pick(()) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_excluded_members_are_not_picked(policy: type[RandomChoice[Backend]]) -> None:
    chosen: Balancer[Backend] = policy(seeded().random)
    members = backends(4)
    for member, weight in zip(members, [1_000_000, 2, 1, 1], strict=True):
        chosen.put(member, weight)
    for _ in range(50):
        assert chosen.pick(members[:1]) in members[1:]
        assert chosen.pick(members[:3]) is members[3]
        assert chosen.pick(members) is None


def test_of_those_left_over_each_has_its_share() -> None:
    drawn: WeightedSet[Backend] = WeightedSet(seeded().random)
    members = backends(3)
    for member, weight in zip(members, [1_000_000, 3, 1], strict=True):
        drawn.put(member, weight)
    counts = Counter(got for _ in range(PICKS) if (got := drawn.draw_except(members[:1])) is not None)
    within_the_bound(counts, [(members[1], 3), (members[2], 1)])


def test_requests_in_flight_come_to_be_as_the_weights() -> None:
    """Nobody ever answers: so the requests in flight are all that there were."""
    chosen: LeastRequests[Backend] = LeastRequests(seeded().random)
    members = backends(6)
    weights = [1, 1, 2, 2, 4, 10]
    for member, weight in zip(members, weights, strict=True):
        chosen.put(member, weight)
    for _ in range(20_000):
        picked = chosen.pick(())
        assert picked is not None
        picked.in_flight += 1
    for member, weight in zip(members, weights, strict=True):
        assert member.in_flight == pytest.approx(1000 * weight, rel=0.02)


def answered(member: Backend, latency_s: float, now_s: float) -> None:
    assert member.latency is not None
    member.latency.observe(latency_s, now_s)


def test_a_slow_one_is_avoided_until_its_answer_is_old() -> None:
    chosen: PeakEwma[Backend] = PeakEwma(seeded().random)
    slow, *others = members = backends(5)
    for member in members:
        chosen.put(member, 1)
        answered(member, 1.0 if member is slow else 0.010, 0.0)

    def share(now_s: float) -> float:
        counts = Counter(chosen.pick((), None, now_s) for _ in range(2000))
        return counts[slow] / 2000

    assert share(1.0) < 0.06  # only when it is drawn twice: 1 in 25
    for now_s in range(60):
        for member in others:
            answered(member, 0.010, now_s)
    # It has faded below the others.
    assert share(60.0) > 0.2


def test_one_peak_counts_at_once_and_many_quick_answers_make_it_good() -> None:
    chosen: PeakEwma[Backend] = PeakEwma(seeded().random)
    one, other = backends(2)
    for member in (one, other):
        chosen.put(member, 1)
        answered(member, 0.010, 0.0)
    answered(one, 2.0, 0.1)
    assert one.latency is not None
    assert one.latency.at(0.1) == 2.0
    for tenths in range(1000):
        answered(one, 0.010, tenths / 10)
    assert one.latency.at(100.0) == pytest.approx(0.010, rel=0.05)


def test_failing_fast_is_no_merit_and_never_answering_is_a_fault() -> None:
    member = Backend("b")
    PeakEwma[Backend]().put(member, 1)
    answered(member, 0.1, 0.0)
    assert member.latency is not None
    member.latency.at_least(0.0001, 0.0)
    assert member.latency.at(0.0) == 0.1
    member.latency.at_least(60.0, 0.0)
    assert member.latency.at(0.0) == 60.0


def test_a_new_one_gets_one_request_to_learn_from() -> None:
    chosen: PeakEwma[Backend] = PeakEwma(seeded().random)
    new, *others = members = backends(3)
    for member in members:
        chosen.put(member, 1)
    for member in others:
        answered(member, 0.010, 0.0)
    picked = next(got for _ in range(100) if (got := chosen.pick((), None, 0.0)) is new)
    picked.in_flight += 1
    counts = Counter(chosen.pick((), None, 0.0) for _ in range(900))
    assert counts[new] < 900 / 9 * 1.4  # only when it is drawn twice
