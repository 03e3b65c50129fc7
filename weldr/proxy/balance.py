"""Which member is next: weighted round robin. Pure.

Members of equal weight take turns. Others are scheduled by earliest deadline: a member of weight w is due every
1/w, and whoever is due first is picked and put behind by 1/w, which costs O(log n) and spreads the picks of a
heavy member evenly between those of the others. The first turn of each is at a random place within its period:
so the members are not favoured in their order each time that the set changes, nor by all workers at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from heapq import heapify, heapreplace
from typing import Generic, Protocol, TypeVar

Member = TypeVar("Member")

# Deadlines are whole numbers, so that they never lose precision however long a worker runs.
_PERIOD_OF_WEIGHT_1 = 1 << 40


class Balancer(Protocol[Member]):
    """Picks members by their weights."""

    def pick(self, excluded: Collection[Member]) -> Member | None:
        """The next member that is not excluded; `None` if there is none."""


def balancer(
    members: Sequence[tuple[Member, int]], chance: Callable[[], float] = random.random
) -> Balancer[Member]:
    """A balancer of members with their weights, all above 0. `chance` gives numbers from [0, 1)."""
    weights = {weight for _, weight in members}
    if len(weights) <= 1:
        return _Turns([member for member, _ in members], chance)
    return _Deadlines(members, chance)


class _Turns(Generic[Member]):
    __slots__ = ("_members", "_next")

    def __init__(self, members: Sequence[Member], chance: Callable[[], float]) -> None:
        self._members = members
        self._next = int(chance() * len(members))

    def pick(self, excluded: Collection[Member]) -> Member | None:
        members = self._members
        for _ in range(len(excluded) + 1):
            position = self._next
            if position >= len(members):
                if not members:
                    return None
                position = 0
            self._next = position + 1
            member = members[position]
            if member not in excluded:
                return member
        return _first(members, excluded)


class _Deadlines(Generic[Member]):
    __slots__ = ("_heap", "_members")

    def __init__(self, members: Sequence[tuple[Member, int]], chance: Callable[[], float]) -> None:
        self._members = [member for member, _ in members]
        self._heap = []
        for position, (_, weight) in enumerate(members):
            period = _PERIOD_OF_WEIGHT_1 // weight
            self._heap.append((int(chance() * period), position, period))
        heapify(self._heap)

    def pick(self, excluded: Collection[Member]) -> Member | None:
        for _ in range(len(excluded) + 1):
            due, position, period = self._heap[0]
            heapreplace(self._heap, (due + period, position, period))
            member = self._members[position]
            if member not in excluded:
                return member
        return _first(self._members, excluded)


def _first(members: Sequence[Member], excluded: Collection[Member]) -> Member | None:
    return next((member for member in members if member not in excluded), None)
