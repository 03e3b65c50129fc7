"""Checks are spread over time, whatever comes together."""

from __future__ import annotations

import random

from weldr.control.health.schedule import Schedule
from weldr.model.health import BackendKey


def key(number: int) -> BackendKey:
    return ("s", f"b{number}", "127.0.0.1", number)


def test_a_single_new_backend_is_asked_at_once() -> None:
    schedule = Schedule()
    schedule.begin([key(1)], 10.0, now_s=100.0)
    assert schedule.take(100.0) == key(1)
    assert schedule.take(1000.0) is None


def test_ten_thousand_that_come_together_never_meet() -> None:
    schedule = Schedule(random.Random(1).random)
    schedule.begin([key(number) for number in range(10_000)], 10.0, now_s=0.0)
    asked_in_second = [0] * 60
    now_s = 0.0
    while now_s < 60.0:
        while (due := schedule.take(now_s)) is not None:
            asked_in_second[int(now_s)] += 1
            schedule.after(due, 10.0, now_s)
        now_s += 0.02
    assert sum(asked_in_second) > 58_000
    # An even spread has 1,000 in a second; the earliest of the second round meet the last of the first.
    assert max(asked_in_second) < 1_300
    assert min(asked_in_second[:10]) > 900
    assert min(asked_in_second) > 650


def test_what_is_discarded_is_not_asked_and_what_is_suspected_is_asked_now() -> None:
    schedule = Schedule(lambda: 0.5)
    schedule.after(key(1), 10.0, 0.0)
    schedule.after(key(2), 20.0, 0.0)
    schedule.discard(key(1))
    schedule.soon(key(1), 1.0)
    schedule.soon(key(2), 1.0)
    assert schedule.next_s() == 1.0
    assert schedule.take(1.0) == key(2)
    assert schedule.take(100.0) is None
    assert schedule.next_s() == float("inf")


def test_the_memory_of_what_is_no_longer_meant_is_bounded() -> None:
    schedule = Schedule()
    for number in range(10_000):
        schedule.after(key(1), 10.0, float(number))
    assert len(schedule) == 1
    assert len(schedule._heap) < 100
