"""The adaptive limit, against services whose latency follows from how many requests they have."""

from __future__ import annotations

from weldr.model.resilience import AdaptiveConcurrency
from weldr.proxy.gradient import Gradient

TICK_S = 0.5


class Service:
    """Works on so many requests at a time; more of them wait in its queue."""

    def __init__(self, capacity: int, work_s: float) -> None:
        self.capacity = capacity
        self.work_s = work_s

    def latency_s(self, in_flight: int) -> float:
        return self.work_s * max(1.0, in_flight / self.capacity)


def run(gradient: Gradient, service: Service, demand: int, ticks: int, now_s: float = 100.0) -> list[int]:
    """The limits, tick by tick, with clients that would have `demand` requests in flight at any time."""
    limits = []
    for _ in range(ticks):
        in_flight = min(demand, gradient.limit)
        latency_s = service.latency_s(in_flight)
        answered = max(1, int(min(in_flight, service.capacity) * TICK_S / service.work_s))
        for number in range(answered):
            gradient.answered(now_s + TICK_S * (number + 1) / answered, latency_s, in_flight)
        now_s += TICK_S
        gradient.tick(now_s)
        limits.append(gradient.limit)
    return limits


def test_it_grows_while_latency_stays_the_same() -> None:
    limits = run(Gradient(AdaptiveConcurrency(initial=20)), Service(1000, 0.01), demand=400, ticks=240)
    assert limits[-1] >= 400


def test_it_does_not_grow_for_a_service_that_does_not_need_it() -> None:
    limits = run(Gradient(AdaptiveConcurrency(initial=50)), Service(1000, 0.01), demand=10, ticks=240)
    assert set(limits) == {50}


def test_it_settles_where_the_service_has_work_and_a_short_queue() -> None:
    limits = run(Gradient(AdaptiveConcurrency(initial=20)), Service(40, 0.01), demand=5000, ticks=1200)
    settled = [limit for limit in limits[100:] if limit != 5]
    assert min(settled) >= 40
    assert max(settled) <= 100


def test_it_falls_when_the_service_becomes_slow_under_its_load_and_recovers() -> None:
    gradient, service = Gradient(AdaptiveConcurrency(initial=20)), Service(100, 0.01)
    before = run(gradient, service, demand=5000, ticks=100)[-1]
    service.capacity = 20
    during = run(gradient, service, demand=5000, ticks=60, now_s=150)[-1]
    assert 20 <= during <= 50 < before
    service.capacity = 100
    assert run(gradient, service, demand=5000, ticks=60, now_s=180)[-1] > 90


def test_it_learns_that_the_service_takes_longer_without_load_too() -> None:
    gradient, service = Gradient(AdaptiveConcurrency(initial=20)), Service(100, 0.01)
    run(gradient, service, demand=5000, ticks=100)
    service.work_s = 0.05
    limits = run(gradient, service, demand=5000, ticks=300, now_s=150)
    assert limits[20] < 60
    assert 5 in limits
    assert limits[-1] > 90


def test_what_was_sent_before_a_probe_does_not_count_in_it() -> None:
    gradient, service = Gradient(AdaptiveConcurrency(initial=20)), Service(40, 0.01)
    now_s = 100.0
    while gradient.limit != 5:
        run(gradient, service, demand=5000, ticks=1, now_s=now_s)
        now_s += TICK_S
        assert now_s < 200
    for _ in range(50):
        gradient.answered(now_s + 0.1, 5.0, 60)
    run(gradient, service, demand=5000, ticks=1, now_s=now_s)
    assert run(gradient, service, demand=5000, ticks=60, now_s=now_s + TICK_S)[-1] <= 100


def test_it_stays_within_its_bounds() -> None:
    policy = AdaptiveConcurrency(initial=20, minimum=10, maximum=30)
    assert max(run(Gradient(policy), Service(1000, 0.01), demand=500, ticks=240)) == 30
    # All time is spent on one: more only wait.
    assert min(run(Gradient(policy), Service(1, 0.01), demand=500, ticks=240)) == 10


def test_a_few_answers_say_nothing() -> None:
    gradient = Gradient(AdaptiveConcurrency(initial=20))
    for now_s in range(100, 104):
        gradient.answered(now_s, 10.0, 20)
        gradient.tick(now_s)
    assert gradient.limit == 20


def test_latencies_too_short_to_measure_do_no_harm() -> None:
    gradient = Gradient(AdaptiveConcurrency(initial=20))
    for now_s in range(100, 110):
        for _ in range(20):
            gradient.answered(now_s, 0.0, 20)
        gradient.tick(now_s)
    assert gradient.limit > 20
