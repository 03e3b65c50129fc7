"""Latencies in buckets."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from weldr.model.latency import MOST_BUCKETS, TICK_S, bucket_of, quantile_s, upper_bound

latencies = st.integers(0, 1 << 54)


@given(latencies)
def test_a_latency_is_below_the_bound_of_its_bucket_and_of_no_earlier_one(
    ticks: int,
) -> None:
    bucket = bucket_of(ticks)
    assert ticks < upper_bound(bucket)
    assert bucket == 0 or ticks >= upper_bound(bucket - 1)


@given(latencies)
def test_a_bucket_is_no_wider_than_an_eighth_of_what_it_counts(ticks: int) -> None:
    bucket = bucket_of(ticks)
    below = upper_bound(bucket - 1) if bucket else 0
    assert upper_bound(bucket) - below <= max(1, ticks / 8)


@given(st.lists(latencies, min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_latencies_to_within_a_bucket(recorded: list[int], share: float) -> None:
    found_s = quantile_s(Counter(map(bucket_of, recorded)), share)
    exact = sorted(recorded)[max(0, -int(-share * len(recorded) // 1) - 1)]
    assert found_s == upper_bound(bucket_of(exact)) * TICK_S


def test_without_requests_there_is_no_quantile() -> None:
    assert quantile_s({}, 0.5) is None


def test_no_latency_is_beyond_the_last_bucket() -> None:
    assert bucket_of(1 << 54) < MOST_BUCKETS
