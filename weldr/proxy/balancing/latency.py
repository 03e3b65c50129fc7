"""How slow a member was lately: the peak of its latency, decaying.

As in Finagle's "peak EWMA": what is slower than the average replaces it at once, what is faster brings it down
only with time. So a member that stalls is avoided after one answer, and given another chance as it ages.
"""

from __future__ import annotations

from math import exp

DECAY_S = 10.0
"""After this long an old value counts for 1/e."""


class PeakLatency:
    """Of one member."""

    __slots__ = ("_at_s", "_peak_s", "known")

    def __init__(self) -> None:
        self.known = False
        """Whether there was an answer at all."""
        self._peak_s = 0.0
        self._at_s = 0.0

    def observe(self, latency_s: float, now_s: float) -> None:
        """An answer took so long."""
        if not self.known or latency_s >= self._peak_s:
            self._peak_s = latency_s
        else:
            kept = exp((self._at_s - now_s) / DECAY_S)
            self._peak_s = self._peak_s * kept + latency_s * (1 - kept)
        self.known = True
        self._at_s = now_s

    def at_least(self, latency_s: float, now_s: float) -> None:
        """No answer came within this time: it counts if the value is lower, since to fail fast is no merit."""
        if latency_s > self.at(now_s):
            self.observe(latency_s, now_s)

    def at(self, now_s: float) -> float:
        """The value now: without answers it fades."""
        return self._peak_s * exp((self._at_s - now_s) / DECAY_S)
