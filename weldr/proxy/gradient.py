"""How many requests a service can have in flight before they only wait for each other. Pure: time is passed in.

By the ratio of the latency without load to the present one, as in Netflix's concurrency-limits and in Envoy's
adaptive concurrency: while latency stays within the tolerance the limit grows by its square root, so that there
is a queue to grow by, and beyond it shrinks with the ratio.

The latency without load is known when the service is not at its limit. When it is at its limit for long, the
present latency says nothing about it; then the limit is cut to the least for a moment, and what is sent and
answered in that moment tells.
"""

from __future__ import annotations

from math import sqrt

from weldr.model.resilience import AdaptiveConcurrency

_ENOUGH_SAMPLES = 5
_SHORTEST_S = 1e-6
"""No latency is nothing: ratios are made of them."""
_SMOOTHING = 0.3
_STEEPEST = 0.5
_PROBE_EVERY_S = 60.0
_PROBE_LONGEST_S = 2.0


class Gradient:
    """One service's limit, in one worker."""

    __slots__ = ("_base_s", "_peak", "_policy", "_probe_began_s", "_probed_s", "_samples", "_sum_s", "_wide")

    def __init__(self, policy: AdaptiveConcurrency) -> None:
        self._policy = policy
        self._wide = float(policy.initial)
        """The limit but for probes."""
        self._base_s: float | None = None
        """The latency without load."""
        self._probe_began_s: float | None = None
        """If one is under way."""
        self._probed_s: float | None = None
        """When the latency without load was last known from observation."""
        self._samples = 0
        self._sum_s = 0.0
        self._peak = 0
        """The most requests in flight at any of the samples."""

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._policy.minimum if self._probe_began_s is not None else int(self._wide)

    def answered(self, now_s: float, latency_s: float, in_flight: int) -> None:
        """A try was answered after this time; so many requests were in flight, it included."""
        if self._probe_began_s is not None and now_s - latency_s < self._probe_began_s:
            return
        self._samples += 1
        self._sum_s += max(latency_s, _SHORTEST_S)
        self._peak = max(self._peak, in_flight)

    def tick(self, now_s: float) -> None:
        """To be called a few times in a second."""
        if self._probe_began_s is not None:
            self._end_probe(now_s, self._probe_began_s)
        elif self._samples >= _ENOUGH_SAMPLES:
            self._adapt(now_s, self._sum_s / self._samples)
            self._forget()

    def _adapt(self, now_s: float, latency_s: float) -> None:
        policy = self._policy
        base_s = latency_s if self._base_s is None else self._base_s
        if self._peak * 2 < self._wide:
            # Far from its limit: so this is what it takes, for whatever reason.
            self._base_s = base_s + _SMOOTHING * (latency_s - base_s)
            self._probed_s = now_s
            return
        self._base_s = base_s = min(base_s, latency_s)
        ratio = max(_STEEPEST, min(1.0, policy.tolerance * base_s / latency_s))
        wanted = self._wide * ratio + sqrt(self._wide)
        self._wide += _SMOOTHING * (wanted - self._wide)
        self._wide = max(policy.minimum, min(policy.maximum, self._wide))
        if self._probed_s is None:
            self._probed_s = now_s
        elif now_s - self._probed_s >= _PROBE_EVERY_S:
            self._probe_began_s = now_s

    def _end_probe(self, now_s: float, began_s: float) -> None:
        if self._samples < _ENOUGH_SAMPLES and now_s - began_s < _PROBE_LONGEST_S:
            return
        if self._samples:
            self._base_s = self._sum_s / self._samples
        self._probe_began_s = None
        self._probed_s = now_s
        self._forget()

    def _forget(self) -> None:
        self._samples = 0
        self._sum_s = 0.0
        self._peak = 0
