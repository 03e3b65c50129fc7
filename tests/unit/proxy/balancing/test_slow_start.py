"""A share that grows with time."""

from __future__ import annotations

import pytest

from weldr.proxy.balancing.slow_start import LEAST_SHARE, SlowStart


def test_it_grows_from_a_tenth_to_all() -> None:
    slow: SlowStart[str] = SlowStart(10.0)
    slow.begin("a", 100.0)
    shares = []
    for tenths in range(0, 101, 5):
        slow.tick(100.0 + tenths / 10)
        shares.append(slow.share("a"))
    assert shares[0] == LEAST_SHARE
    assert shares == sorted(shares)
    for tenths, share in zip(range(0, 101, 5), shares, strict=True):
        assert share == pytest.approx(max(LEAST_SHARE, tenths / 100), abs=0.051)
    assert shares[-1] == 1.0


def test_only_those_whose_share_is_another_are_told() -> None:
    slow: SlowStart[str] = SlowStart(100.0)
    slow.begin("a", 0.0)
    slow.begin("b", 50.0)
    told = [slow.tick(now_s) for now_s in range(151)]
    assert sum(each.count("a") for each in told) <= 20
    assert told[100] == ["a", "b"]
    assert told[150] == ["b"]
    assert slow.tick(151.0) == []


def test_one_that_goes_or_never_began_has_all_of_its_weight() -> None:
    slow: SlowStart[str] = SlowStart(10.0)
    assert slow.share("a") == 1.0
    slow.begin("a", 0.0)
    slow.forget("a")
    assert slow.share("a") == 1.0
    assert slow.tick(5.0) == []


def test_without_a_duration_nothing_begins() -> None:
    slow: SlowStart[str] = SlowStart(0.0)
    slow.begin("a", 0.0)
    assert slow.share("a") == 1.0
    assert slow.tick(1.0) == []
