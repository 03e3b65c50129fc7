"""One metric with all of its samples, as lines of text: very many of them, so written by hand.

The line of a sample is the same in OpenMetrics and in Prometheus' older format. The lines before them are not:
these the library writes.
"""

from __future__ import annotations

from itertools import accumulate

from prometheus_client.metrics_core import Metric

from weldr.model.latency import MOST_BUCKETS, TICK_S, upper_bound

DOUBLINGS = range(9, 27)
"""The bounds of histograms, as powers of two in ticks: from half a millisecond to a minute. Each is a bound of
the buckets that are counted in, so that no sample is on the wrong side of one."""

_PLACES = [sum(1 << power < upper_bound(bucket) for power in DOUBLINGS) for bucket in range(MOST_BUCKETS)]
"""Of each bucket, among the bounds and then infinity."""
_ENDS = [f'le="{(1 << power) * TICK_S!r}"}} ' for power in DOUBLINGS] + ['le="+Inf"} ']
_MIDDLES_S = [
    ((upper_bound(bucket - 1) if bucket else 0) + upper_bound(bucket)) / 2 * TICK_S
    for bucket in range(MOST_BUCKETS)
]


def labels(**values: str) -> str:
    """As they stand between a sample's braces: made once for all samples of a thing."""
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in values.items()])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Family:
    """One metric."""

    __slots__ = ("_name", "about", "lines")

    def __init__(self, name: str, kind: str, text: str, unit: str = "") -> None:
        """`name` without the suffix of a counter, but with its `unit`."""
        self.about = Metric(name, text, kind, unit)
        """Without samples."""
        self.lines: list[str] = []
        self._name = name

    def add(self, labels: str, value: float, suffix: str = "") -> None:
        """One sample."""
        # The sign makes a number of a bool.
        braces = f"{{{labels}}}" if labels else ""
        self.lines.append(f"{self._name}{suffix}{braces} {+value}\n")

    def count(self, labels: str, value: float) -> None:
        """One sample of a counter."""
        self.lines.append(f"{self._name}_total{{{labels}}} {value}\n")

    def histogram(self, labels: str, counts: dict[int, int]) -> None:
        """All samples of one histogram of latencies, by bucket as in `weldr.model.latency`.

        Its sum is that of the middles of the buckets: each latency is known to within one part in eight.
        """
        between = [0] * len(_ENDS)
        for bucket, count in counts.items():
            between[_PLACES[bucket]] += count
        head = f"{self._name}_bucket{{{labels}," if labels else f"{self._name}_bucket{{"
        self.lines.extend(
            [f"{head}{end}{total}\n" for end, total in zip(_ENDS, accumulate(between), strict=True)]
        )
        self.summary(labels, counts)

    def summary(self, labels: str, counts: dict[int, int]) -> None:
        """Count and sum of latencies."""
        sum_s = sum([count * _MIDDLES_S[bucket] for bucket, count in counts.items()])
        self.add(labels, sum(counts.values()), "_count")
        self.add(labels, sum_s, "_sum")
