"""How often something happened lately. Pure: time is passed in, and never goes back."""

from __future__ import annotations

_SLOTS = 10


class Window:
    """Counts over the last so many seconds, in tenths of them: what is older is forgotten a tenth at a time."""

    __slots__ = ("_counts", "_slot", "_slot_s", "_total")

    def __init__(self, length_s: float) -> None:
        self._slot_s = length_s / _SLOTS
        self._slot = 0
        """The number of the present tenth, from the beginning of time."""
        self._counts = [0] * _SLOTS
        self._total = 0

    def add(self, now_s: float, count: int = 1) -> None:
        """It happened so many times more."""
        self._advance(now_s)
        self._counts[self._slot % _SLOTS] += count
        self._total += count

    def total(self, now_s: float) -> int:
        """How often it happened within the window."""
        self._advance(now_s)
        return self._total

    def clear(self) -> None:
        """Forget all."""
        self._counts = [0] * _SLOTS
        self._total = 0

    def _advance(self, now_s: float) -> None:
        slot = int(now_s / self._slot_s)
        if slot - self._slot >= _SLOTS:
            self.clear()
        else:
            for passed in range(self._slot + 1, slot + 1):
                self._total -= self._counts[passed % _SLOTS]
                self._counts[passed % _SLOTS] = 0
        self._slot = max(self._slot, slot)
