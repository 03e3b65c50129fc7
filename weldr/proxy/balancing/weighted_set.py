"""Members drawn by chance, each with a probability in proportion to its weight.

They stand in classes, one for each power of two: a class is drawn by the sum of its weights, then one of its
members evenly, which is kept with the probability of its weight to the class's bound, and so at least every
second time. So a draw and a change take constant time on average, however many members and weights there are.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection
from itertools import accumulate
from typing import Generic

from weldr.proxy.balancing.balancer import AnyMember, Chance

_DRAWS = 8


class _Class(Generic[AnyMember]):
    __slots__ = ("bound", "members", "total")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        """Not below any weight in it, and below twice each."""
        self.members: list[AnyMember] = []
        self.total = 0


class WeightedSet(Generic[AnyMember]):
    """See the module."""

    __slots__ = ("_chance", "_classes", "_counts", "_place", "_total", "_weights")

    def __init__(self, chance: Chance = random.random) -> None:
        self._chance = chance
        self._classes: list[_Class[AnyMember]] = []
        self._weights: dict[AnyMember, int] = {}
        self._place: dict[AnyMember, int] = {}
        """Where in its class it stands."""
        self._counts: Counter[int] = Counter()
        """How many have which weight."""
        self._total = 0

    def weight(self, member: AnyMember) -> int:
        """Of one that is in it."""
        return self._weights[member]

    @property
    def mean_weight(self) -> float:
        """Of all that are in it. There has to be one."""
        return self._total / len(self._weights)

    def put(self, member: AnyMember, weight: int) -> None:
        """Add a member, or change its weight."""
        if self._weights.get(member) == weight:
            return
        self.remove(member)
        self._weights[member] = weight
        self._counts[weight] += 1
        its = self._class(weight)
        self._place[member] = len(its.members)
        its.members.append(member)
        its.total += weight
        self._total += weight

    def remove(self, member: AnyMember) -> None:
        """Forget a member, if it is one."""
        weight = self._weights.pop(member, None)
        if weight is None:
            return
        self._counts[weight] -= 1
        if not self._counts[weight]:
            del self._counts[weight]
        its = self._class(weight)
        place, last = self._place.pop(member), its.members.pop()
        if last != member:
            its.members[place] = last
            self._place[last] = place
        its.total -= weight
        self._total -= weight
        if not its.members:
            self._classes.remove(its)

    def _class(self, weight: int) -> _Class[AnyMember]:
        bound = 1 << (weight - 1).bit_length()
        for its in self._classes:
            if its.bound == bound:
                return its
        its = _Class(bound)
        self._classes.append(its)
        return its

    def draw(self) -> AnyMember:
        """Any member. There has to be one."""
        classes, chance = self._classes, self._chance
        its = classes[0]
        if len(classes) > 1:
            at = chance() * self._total
            for its in classes:
                at -= its.total
                if at < 0:
                    break
        members, count = its.members, len(its.members)
        if len(self._counts) == 1:
            return members[int(chance() * count)]
        weights, bound = self._weights, its.bound
        while True:
            member = members[int(chance() * count)]
            if chance() * bound < weights[member]:
                return member

    def draw_except(self, excluded: Collection[AnyMember]) -> AnyMember | None:
        """Any member that is not excluded; `None` if there is none."""
        if not self._weights:
            return None
        member = self.draw()
        if member not in excluded:
            return member
        for _ in range(_DRAWS):
            member = self.draw()
            if member not in excluded:
                return member
        left = [each for each in self._weights if each not in excluded]
        if not left:
            return None
        bounds = list(accumulate(self._weights[each] for each in left))
        return left[bisect_right(bounds, self._chance() * bounds[-1])]
