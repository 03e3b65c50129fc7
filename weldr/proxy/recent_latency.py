"""What a share of a service's recent requests did not take longer than. Pure: time is passed in."""

from __future__ import annotations

from weldr.model.latency import TICK_S, bucket_of, quantile_s

_ENOUGH_SAMPLES = 20
_AGE_S = 10.0


class RecentLatency:
    """Of the last ten to twenty seconds, as counts in buckets. A service that gets few requests is unknown."""

    __slots__ = ("_counts", "_earlier", "_share", "_since_s", "known_s")

    def __init__(self, percentile: float) -> None:
        self.known_s: float | None = None
        """The percentile, as of the last `tick`."""
        self._share = percentile / 100
        self._counts: dict[int, int] = {}
        self._earlier: dict[int, int] = {}
        self._since_s = 0.0

    def add(self, latency_s: float) -> None:
        """A request took so long, or as long at least."""
        bucket = bucket_of(int(latency_s / TICK_S))
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def tick(self, now_s: float) -> None:
        """To be called a few times in a second."""
        counts = self._earlier.copy()
        for bucket, count in self._counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        self.known_s = quantile_s(counts, self._share) if sum(counts.values()) >= _ENOUGH_SAMPLES else None
        if now_s - self._since_s >= _AGE_S:
            self._earlier, self._counts = self._counts, {}
            self._since_s = now_s
