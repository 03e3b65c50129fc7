"""Weighted round robin, smooth: the picks of a heavy member are spread evenly between those of the others.

Members of equal weight stand in one group and take turns. The groups are scheduled by earliest deadline: one
of a total weight w is due every 1/w, and whichever is due first is picked and put behind by 1/w. That costs
O(log g) for g different weights, nothing where there is only one, and does not depend on the number of members.

A group begins at a random place within its period, and its members stand in random order: so they are not
favoured in the order of their names, nor by all workers at once.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic

from weldr.proxy.balancing.balancer import AnyMember, Chance

# Deadlines are whole numbers, so that they never lose precision however long a worker runs.
_PERIOD_OF_WEIGHT_1 = 1 << 60
_SPARE_ENTRIES = 16


class _Turns(Generic[AnyMember]):
    __slots__ = ("due", "members", "number", "period", "turn")

    def __init__(self) -> None:
        self.members: list[AnyMember] = []
        self.turn = 0
        self.period = 0
        self.due = 0
        self.number = 0
        """Of its entry in the heap; an entry with another number is void."""


class RoundRobin(Generic[AnyMember]):
    """A `Balancer`."""

    __slots__ = ("_chance", "_groups", "_heap", "_numbers", "_only", "_place", "_time", "_weights")

    def __init__(self, chance: Chance = random.random) -> None:
        self._chance = chance
        self._groups: dict[int, _Turns[AnyMember]] = {}
        self._only: _Turns[AnyMember] | None = None
        """The group, while there is only one."""
        self._heap: list[tuple[int, int, _Turns[AnyMember]]] = []
        self._numbers = 0
        self._time = 0
        """The deadline of the last pick."""
        self._weights: dict[AnyMember, int] = {}
        self._place: dict[AnyMember, int] = {}
        """Where in its group it stands."""

    def pick(
        self, excluded: Collection[AnyMember], key: int | None = None, now_s: float = 0.0
    ) -> AnyMember | None:
        """The member whose turn it is."""
        turns = self._only
        if turns is None:
            if not self._groups:
                return None
            turns = self._due()
        turn = turns.turn
        if turn >= len(turns.members):
            turn = 0
        turns.turn = turn + 1
        member = turns.members[turn]
        return member if member not in excluded else self._pick_another(excluded)

    def _due(self) -> _Turns[AnyMember]:
        heap = self._heap
        while True:
            due, number, turns = heap[0]
            if number == turns.number:
                break
            heappop(heap)
        self._time = due
        turns.due = due = due + turns.period
        heapreplace(heap, (due, number, turns))
        return turns

    def _pick_another(self, excluded: Collection[AnyMember]) -> AnyMember | None:
        for _ in range(2 * len(excluded)):
            turns = self._only or self._due()
            turns.turn = turn = turns.turn % len(turns.members) + 1
            member = turns.members[turn - 1]
            if member not in excluded:
                return member
        left = [member for member in self._weights if member not in excluded]
        return left[int(self._chance() * len(left))] if left else None

    def put(self, member: AnyMember, weight: int) -> None:
        """Add a member, or change its weight."""
        if self._weights.get(member) == weight:
            return
        self.remove(member)
        self._weights[member] = weight
        turns = self._groups.get(weight)
        if turns is None:
            turns = self._groups[weight] = _Turns()
        members = turns.members
        place = int(self._chance() * (len(members) + 1))
        members.append(member)
        if place < len(members) - 1:
            self._place[members[place]] = len(members) - 1
            members[place], members[-1] = member, members[place]
        self._place[member] = place
        self._resized(turns, weight)

    def remove(self, member: AnyMember) -> None:
        """Forget a member, if it is one."""
        weight = self._weights.pop(member, None)
        if weight is None:
            return
        turns = self._groups[weight]
        place, last = self._place.pop(member), turns.members.pop()
        if last != member:
            turns.members[place] = last
            self._place[last] = place
        self._resized(turns, weight)

    def _resized(self, turns: _Turns[AnyMember], weight: int) -> None:
        """Give the group the period that it now has, and keep how much of it is over."""
        before = turns.period
        if turns.members:
            turns.period = _PERIOD_OF_WEIGHT_1 // (weight * len(turns.members))
            if before:
                turns.due = self._time + (turns.due - self._time) * turns.period // before
            else:
                turns.due = self._time + int(self._chance() * turns.period)
            self._enter(turns)
        else:
            del self._groups[weight]
            turns.number = 0
        self._only = next(iter(self._groups.values())) if len(self._groups) == 1 else None

    def _enter(self, turns: _Turns[AnyMember]) -> None:
        self._numbers += 1
        turns.number = self._numbers
        heappush(self._heap, (turns.due, turns.number, turns))
        if len(self._heap) > 2 * len(self._groups) + _SPARE_ENTRIES:
            self._heap = [(each.due, each.number, each) for each in self._groups.values() if each.number]
            heapify(self._heap)
