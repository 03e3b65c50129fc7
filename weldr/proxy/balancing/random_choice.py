"""By chance. Many workers and instances that know nothing of each other never fall into step."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Generic

from weldr.proxy.balancing.balancer import AnyMember, Chance
from weldr.proxy.balancing.weighted_set import WeightedSet


class RandomChoice(Generic[AnyMember]):
    """A `Balancer`."""

    __slots__ = ("_members", "put", "remove")

    def __init__(self, chance: Chance = random.random) -> None:
        self._members: WeightedSet[AnyMember] = WeightedSet(chance)
        self.put = self._members.put
        self.remove = self._members.remove

    def pick(
        self, excluded: Collection[AnyMember], key: int | None = None, now_s: float = 0.0
    ) -> AnyMember | None:
        """Any member that is not excluded."""
        return self._members.draw_except(excluded)
