"""The less busy of two that are drawn by chance, "the power of two choices" (Mitzenmacher, 2001).

Nearly as even as asking all, at the cost of two, and without all workers running to the same idle member.
Members are drawn by weight and compared by requests in flight for their weight: so while nobody has anything
to do the shares are those of the weights, and under load each has as much to do as it has weight.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Generic

from weldr.proxy.balancing.balancer import Chance, MemberType
from weldr.proxy.balancing.weighted_set import WeightedSet


class LeastRequests(Generic[MemberType]):
    """A `Balancer`."""

    __slots__ = ("_members", "put", "remove")

    def __init__(self, chance: Chance = random.random) -> None:
        self._members: WeightedSet[MemberType] = WeightedSet(chance)
        self.put = self._members.put
        self.remove = self._members.remove

    def pick(
        self, excluded: Collection[MemberType], key: int | None = None, now_s: float = 0.0
    ) -> MemberType | None:
        """The less busy of two."""
        members = self._members
        one = members.draw_except(excluded)
        if one is None or not one.in_flight:
            return one
        # The same one twice is no harm: it happens as often as chance has it.
        other = members.draw()
        if other is one or other in excluded:
            return one
        if other.in_flight * members.weight(one) < one.in_flight * members.weight(other):
            return other
        return one
