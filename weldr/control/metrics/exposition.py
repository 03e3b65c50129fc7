"""Metrics as text, piece by piece: whoever writes down very many lets others have their turn.

The manager's event loop also renews leases and hands changes on to the workers, none of which can wait for half
a second. So a source yields a big family in several parts that follow one another, and after each of these the
loop goes on with other things.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from weldr.model.latency import TICK_S, upper_bound

SAMPLES_IN_PART = 50

_TEXT = "text/plain; version=0.0.4"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"

DOUBLINGS = range(9, 27)
"""The bounds of histograms, as powers of two in ticks: from half a millisecond to a minute. Each is a bound of
the buckets that are counted in, so that no sample is on the wrong side of one."""


class Family:
    """One metric, and its samples as they come: a part whenever there are enough of them."""

    def __init__(self, name: str, kind: str, text: str, unit: str = "") -> None:
        """`name` without the suffix of a counter, but with its `unit`."""
        self._metric = Metric(name, text, kind, unit)

    def add(self, labels: dict[str, str], value: float, suffix: str = "") -> None:
        """One sample."""
        self._metric.add_sample(self._metric.name + suffix, labels, value)

    def count(self, labels: dict[str, str], value: float) -> None:
        """One sample of a counter."""
        self.add(labels, value, "_total")

    def histogram(self, labels: dict[str, str], counts: dict[int, int]) -> None:
        """All samples of one histogram of latencies, by bucket as in `weldr.model.latency`.

        Its sum is that of the middles of the buckets: each latency is known to within one part in eight.
        """
        bounds = iter(DOUBLINGS)
        power = next(bounds, None)
        total = 0
        for bucket in sorted(counts):
            while power is not None and upper_bound(bucket) > 1 << power:
                self._bucket(labels, power, total)
                power = next(bounds, None)
            total += counts[bucket]
        while power is not None:
            self._bucket(labels, power, total)
            power = next(bounds, None)
        self.add(labels | {"le": "+Inf"}, total, "_bucket")
        self.summary(labels, counts)

    def summary(self, labels: dict[str, str], counts: dict[int, int]) -> None:
        """Count and sum of latencies."""
        self.add(labels, sum(counts.values()), "_count")
        self.add(labels, sum(count * _middle_s(bucket) for bucket, count in counts.items()), "_sum")

    def _bucket(self, labels: dict[str, str], power: int, total: int) -> None:
        self.add(labels | {"le": repr((1 << power) * TICK_S)}, total, "_bucket")

    def part(self, *, last: bool = False) -> Iterator[Metric]:
        """What there is, if that is enough for a part, or the `last` of all."""
        metric = self._metric
        if last or len(metric.samples) >= SAMPLES_IN_PART:
            self._metric = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            yield metric


def _middle_s(bucket: int) -> float:
    below = upper_bound(bucket - 1) if bucket else 0
    return (below + upper_bound(bucket)) / 2 * TICK_S


class _OfOne:
    """A registry of a single metric, as encoders want it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def written(sources: Iterable[Iterable[Metric]], accept: str) -> tuple[bytes, str]:
    """All metrics in the format that `accept` asks for, and its media type. Parts of a family have its name and
    follow one another.
    """
    encode, media_type = _encoder(accept)
    parts: list[bytes] = []
    name = ""
    for source in sources:
        for metric in source:
            text = encode(_OfOne(metric))
            text = text.removesuffix(b"# EOF\n")
            parts.append(_without_head(text) if metric.name == name else text)
            name = metric.name
            await asyncio.sleep(0)
    if media_type.startswith("application/openmetrics-text"):
        parts.append(b"# EOF\n")
    return b"".join(parts), media_type


def _encoder(accept: str) -> tuple[Callable[[_OfOne], bytes], str]:
    # The library fails at a version that is no number; and of all versions the metrics need no more than this.
    takes_openmetrics = any(
        each.partition(";")[0].strip().lower() == "application/openmetrics-text" for each in accept.split(",")
    )
    return choose_encoder(_OPENMETRICS if takes_openmetrics else _TEXT)


def _without_head(text: bytes) -> bytes:
    """Without the lines that say what the metric is: nothing but names begins a line of a sample."""
    while text.startswith(b"# "):
        text = text.partition(b"\n")[2]
    return text
