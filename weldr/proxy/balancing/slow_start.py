"""Whose share still grows: a backend that is new or has recovered gets a tenth of it at first, all of it at
last, and in between as much as of the time is over.

A share changes in steps, as time is told: so many backends that begin together cost little.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

LEAST_SHARE = 0.1
_STEPS = 20

Member = TypeVar("Member", bound=Hashable)


class SlowStart(Generic[Member]):
    """Of one service's members."""

    __slots__ = ("_begun", "duration_s")

    def __init__(self, duration_s: float) -> None:
        self.duration_s = duration_s
        self._begun: dict[Member, tuple[float, float]] = {}
        """Since when, and the share that it has now."""

    def begin(self, member: Member, now_s: float) -> None:
        """It is new, or has recovered."""
        if self.duration_s > 0:
            self._begun[member] = now_s, LEAST_SHARE

    def forget(self, member: Member) -> None:
        """It is gone, or gets nothing."""
        self._begun.pop(member, None)

    def share(self, member: Member) -> float:
        """What it has of its weight, above 0."""
        begun = self._begun.get(member)
        return 1.0 if begun is None else begun[1]

    def tick(self, now_s: float) -> list[Member]:
        """Those whose share is another now."""
        changed = []
        for member, (since_s, share) in list(self._begun.items()):
            grown = _share((now_s - since_s) / self.duration_s)
            if grown >= 1.0:
                del self._begun[member]
                changed.append(member)
            elif grown > share:
                self._begun[member] = since_s, grown
                changed.append(member)
        return changed


def _share(time_over: float) -> float:
    return max(LEAST_SHARE, int(time_over * _STEPS) / _STEPS)
