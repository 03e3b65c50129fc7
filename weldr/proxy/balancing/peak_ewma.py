"""The cheaper of two that are drawn by chance, where a member costs its recent latency times what it has to do.

As in `least_requests`, members are drawn by weight, and what they have to do is measured by it. Of those that
have not answered yet each gets one request to learn from, and more only if the other one is such, too.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from math import inf
from typing import Generic

from weldr.proxy.balancing.balancer import Chance, MemberType
from weldr.proxy.balancing.latency import PeakLatency
from weldr.proxy.balancing.weighted_set import WeightedSet


class PeakEwma(Generic[MemberType]):
    """A `Balancer`."""

    __slots__ = ("_members",)

    def __init__(self, chance: Chance = random.random) -> None:
        self._members: WeightedSet[MemberType] = WeightedSet(chance)

    def put(self, member: MemberType, weight: int) -> None:
        """Add a member, or change its weight."""
        self._members.put(member, weight)
        if member.latency is None:
            member.latency = PeakLatency()

    def remove(self, member: MemberType) -> None:
        """Forget a member, if it is one."""
        self._members.remove(member)

    def pick(
        self, excluded: Collection[MemberType], key: int | None = None, now_s: float = 0.0
    ) -> MemberType | None:
        """The cheaper of two."""
        members = self._members
        one = members.draw_except(excluded)
        if one is None:
            return None
        other = members.draw()
        if other is one or other in excluded:
            return one
        cost, cost_of_other = self._cost(one, now_s), self._cost(other, now_s)
        if cost == cost_of_other:
            return other if other.in_flight < one.in_flight else one
        return other if cost_of_other < cost else one

    def _cost(self, member: MemberType, now_s: float) -> float:
        latency = member.latency
        if latency is None or not latency.known:
            return inf if member.in_flight else 0.0
        members = self._members
        return latency.at(now_s) * (member.in_flight * members.mean_weight / members.weight(member) + 1)
