"""The latency that a share of the recent requests did not exceed."""

from __future__ import annotations

import pytest

from weldr.proxy.recent_latency import RecentLatency


def test_it_is_the_percentile_to_within_an_eighth() -> None:
    latency = RecentLatency(95)
    for number in range(100):
        latency.add(0.001 * (number + 1))
    latency.tick(100)
    assert latency.known_s == pytest.approx(0.095, rel=0.13)


def test_it_is_unknown_before_there_were_enough() -> None:
    latency = RecentLatency(95)
    for _ in range(19):
        latency.add(0.1)
    latency.tick(100)
    assert latency.known_s is None
    latency.add(0.1)
    latency.tick(100.5)
    assert latency.known_s is not None


def test_it_forgets() -> None:
    latency = RecentLatency(95)
    for _ in range(100):
        latency.add(1.0)
    latency.tick(100)
    for now_s in (110, 120):
        for _ in range(100):
            latency.add(0.01)
        latency.tick(now_s)
    latency.tick(120.5)
    assert latency.known_s == pytest.approx(0.01, rel=0.13)
    latency.tick(131)
    latency.tick(131.5)
    assert latency.known_s is None
