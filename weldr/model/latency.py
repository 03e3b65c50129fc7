"""Latencies as counts in log-linear buckets: cheap to record, small, and merged by adding. Pure.

Time is counted in ticks of 1,024 ns, which a shift makes of nanoseconds. A bucket is as wide as an eighth of
the power of two below it: so any latency is known to within one part in eight, from a microsecond to hours.
"""

from __future__ import annotations

from collections.abc import Mapping

TICK_BITS = 10
TICK_S = (1 << TICK_BITS) / 1e9
LINEAR_BITS = 3
MOST_BUCKETS = 1 << 9
"""More than the buckets of any number of nanoseconds in 64 bits."""


def bucket_of(ticks: int) -> int:
    """The bucket that counts this many ticks."""
    shift = ticks.bit_length() - LINEAR_BITS - 1
    return ticks if shift < 0 else (shift << LINEAR_BITS) + (ticks >> shift)


def upper_bound(bucket: int) -> int:
    """The first number of ticks that is above this bucket."""
    shift = max(0, (bucket >> LINEAR_BITS) - 1)
    return (bucket - (shift << LINEAR_BITS) + 1) << shift


def quantile_s(counts: Mapping[int, int], share: float) -> float | None:
    """The latency in seconds that this share of the requests did not exceed; `None` if there were none."""
    total = sum(counts.values())
    if not total:
        return None
    left = share * total
    bucket = 0
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            break
    return upper_bound(bucket) * TICK_S
