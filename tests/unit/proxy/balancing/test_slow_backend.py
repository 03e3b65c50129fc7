"""One backend in ten is slow: what clients see under each policy, in a simulation of ten queues."""

from __future__ import annotations

from heapq import heappop, heappush

import pytest

from tests.unit.proxy.balancing.backends import Backend, backends, seeded
from weldr.proxy.balancing.balancer import Balancer
from weldr.proxy.balancing.least_requests import LeastRequests
from weldr.proxy.balancing.peak_ewma import PeakEwma
from weldr.proxy.balancing.random_choice import RandomChoice
from weldr.proxy.balancing.round_robin import RoundRobin

SERVICE_S = 0.010
SLOW_TIMES = 10
LOAD = 0.5
"""Of what the good nine can do."""


def p99_s(chosen: Balancer[Backend], requests: int = 20_000, seed: int = 7) -> float:
    """Requests come at random (Poisson); each backend serves one at a time, for an exponential time."""
    chance = seeded(seed)
    members = backends(10)
    free_s = dict.fromkeys(members, 0.0)
    for member in members:
        chosen.put(member, 100)
    answers: list[tuple[float, int, Backend, float]] = []
    latencies: list[float] = []
    now_s = 0.0
    for number in range(requests):
        now_s += chance.expovariate(LOAD * 9 / SERVICE_S)
        while answers and answers[0][0] <= now_s:
            done_s, _, member, latency_s = heappop(answers)
            member.in_flight -= 1
            if member.latency is not None:
                member.latency.observe(latency_s, done_s)
        picked = chosen.pick((), None, now_s)
        assert picked is not None
        picked.in_flight += 1
        takes_s = chance.expovariate(1 / SERVICE_S) * (SLOW_TIMES if picked is members[0] else 1)
        free_s[picked] = max(now_s, free_s[picked]) + takes_s
        latencies.append(free_s[picked] - now_s)
        heappush(answers, (free_s[picked], number, picked, latencies[-1]))
    return sorted(latencies)[int(0.99 * len(latencies))]


@pytest.mark.parametrize("policy", [LeastRequests, PeakEwma])
def test_a_policy_that_looks_beats_those_that_do_not_at_the_99th_percentile(
    policy: type[LeastRequests[Backend]],
) -> None:
    looking = p99_s(policy(seeded().random))
    # The slow one can take a ninth of what it gets by turns: its queue grows without end.
    assert looking < 0.05 * p99_s(RoundRobin(seeded().random))
    assert looking < 0.05 * p99_s(RandomChoice(seeded().random))
    assert looking < 40 * SERVICE_S


def test_latency_tells_more_than_requests_in_flight() -> None:
    assert p99_s(PeakEwma(seeded().random)) < p99_s(LeastRequests(seeded().random))
