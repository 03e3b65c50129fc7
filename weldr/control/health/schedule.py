"""When which backend is asked next. Pure: it is told the time and the chance.

Those that come together are spread over the time that a check may wait, and every pause is a little longer or
shorter than it is meant to be: so neither many backends nor many instances ever ask all at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush

from weldr.model.health import BackendKey

_JITTER = 0.1
# As many first checks a second, if there are many: a big catalog must not begin with a burst.
_FIRST_CHECKS_PER_S = 1000


class Schedule:
    """A heap of due times in which what is no longer meant is passed over."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from [0, 1)."""
        self._chance = chance
        self._due_s: dict[BackendKey, float] = {}
        self._heap: list[tuple[float, BackendKey]] = []

    def __len__(self) -> int:
        return len(self._due_s)

    def begin(self, keys: Sequence[BackendKey], longest_s: float, now_s: float) -> None:
        """Ask these for the first time: one at once, many spread over at most `longest_s`."""
        spread_s = min(longest_s, len(keys) / _FIRST_CHECKS_PER_S)
        for position, key in enumerate(keys):
            self._set(key, now_s + spread_s * position / len(keys))

    def after(self, key: BackendKey, pause_s: float, now_s: float) -> None:
        """Ask again after about this pause."""
        self._set(key, now_s + pause_s * (1 + _JITTER * (2 * self._chance() - 1)))

    def soon(self, key: BackendKey, now_s: float) -> None:
        """Ask at once, if it is to be asked at all."""
        if self._due_s.get(key, now_s) > now_s:
            self._set(key, now_s)

    def discard(self, key: BackendKey) -> None:
        """Never ask it again."""
        self._due_s.pop(key, None)

    def _set(self, key: BackendKey, due_s: float) -> None:
        self._due_s[key] = due_s
        heappush(self._heap, (due_s, key))
        if len(self._heap) > 2 * len(self._due_s) + 16:
            self._heap = [(due_s, key) for key, due_s in self._due_s.items()]
            heapify(self._heap)

    def take(self, now_s: float) -> BackendKey | None:
        """The next one that is due; it is not scheduled any more."""
        if self.next_s() > now_s:
            return None
        _, key = heappop(self._heap)
        del self._due_s[key]
        return key

    def next_s(self) -> float:
        """When the next one is due; infinity if none is."""
        heap = self._heap
        while heap and self._due_s.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else float("inf")
