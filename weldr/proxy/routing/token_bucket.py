"""How many requests may come: token buckets, one or one for each key. Pure; time is passed in."""

from __future__ import annotations

from collections import OrderedDict

_MOST_KEYS = 10_000


class TokenBuckets:
    """Each fills at a rate and holds at most so many; a request takes one.

    Of keys the latest `_MOST_KEYS` are known. One that was forgotten begins with a full bucket, as a new one
    does: an attacker with more addresses than that is not stopped by a limit for each.
    """

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        """By key: how many there were, and when."""

    def take(self, key: bytes, now_s: float, share: float = 1.0) -> float:
        """Take one; 0 if there was one, otherwise in how many seconds there will be.

        `share` is the part of rate and burst that is granted here; at least one request at once always is.
        """
        buckets = self._buckets
        rate, burst = self._rate * share, max(1.0, self._burst * share)
        tokens, since_s = buckets.get(key, (burst, now_s))
        tokens = min(burst, tokens + (now_s - since_s) * rate)
        wait_s = 0.0
        if tokens >= 1:
            tokens -= 1
        else:
            wait_s = (1 - tokens) / rate
        buckets[key] = (tokens, now_s)
        buckets.move_to_end(key)
        if len(buckets) > _MOST_KEYS:
            buckets.popitem(last=False)
        return wait_s
