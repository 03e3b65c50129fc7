"""A balancer whose members are dear to put in and to take out: what is to be done of that is done bit by bit.

Who is taken out is out at once, whatever is left to do. Who is put in gets requests when its turn has come, and
another weight counts from then on. As long as most have not had their turn, requests are spread over all by
chance: otherwise the first few would get everything.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Container, Iterator
from typing import Generic, Protocol

from weldr.proxy.balancing.balancer import AnyMember, Balancer, Chance
from weldr.proxy.balancing.random_choice import RandomChoice


class DearBalancer(Balancer[AnyMember], Protocol):
    """One that is worth it."""

    def expect(self, members: int) -> None:
        """So many will soon be put in."""


class Unhurried(Generic[AnyMember]):
    """A `Balancer`, in front of another."""

    __slots__ = ("_all", "_balancer", "_behind", "_held", "_wanted")

    def __init__(self, balancer: DearBalancer[AnyMember], chance: Chance = random.random) -> None:
        """`balancer` is an empty one, and nobody else's."""
        self._balancer = balancer
        self._all: RandomChoice[AnyMember] = RandomChoice(chance)
        self._wanted: dict[AnyMember, int] = {}
        """The weights as they are to be, ..."""
        self._held: dict[AnyMember, int] = {}
        """... and as the other one has them."""
        self._behind: dict[AnyMember, None] = {}
        """Those of whom the two differ."""

    def pick(
        self, excluded: Collection[AnyMember], key: int | None = None, now_s: float = 0.0
    ) -> AnyMember | None:
        """The next member that is not excluded; `None` if there is none."""
        if not self._behind:
            return self._balancer.pick(excluded, key, now_s)
        if 2 * len(self._held) >= len(self._wanted):
            member = self._balancer.pick(_AllBut(excluded, self._wanted), key, now_s)
            if member is not None:
                return member
        return self._all.pick(excluded)

    def put(self, member: AnyMember, weight: int) -> None:
        """Add a member, or change its weight, when its turn comes."""
        self._all.put(member, weight)
        self._wanted[member] = weight
        self._compare(member)

    def remove(self, member: AnyMember) -> None:
        """Forget a member, if it is one."""
        self._all.remove(member)
        self._wanted.pop(member, None)
        self._compare(member)

    def _compare(self, member: AnyMember) -> None:
        if self._held.get(member) == self._wanted.get(member):
            self._behind.pop(member, None)
        else:
            self._behind[member] = None

    @property
    def is_behind(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._behind)

    def catch_up(self, most: int) -> None:
        """Do what there is to do for so many members."""
        if not self._held:
            self._balancer.expect(len(self._wanted))
        for _ in range(min(most, len(self._behind))):
            member, _ = self._behind.popitem()
            weight = self._wanted.get(member)
            if weight is None:
                del self._held[member]
                self._balancer.remove(member)
            else:
                self._held[member] = weight
                self._balancer.put(member, weight)


class _AllBut(Collection[AnyMember]):
    """All that are excluded, and all that are not wanted."""

    __slots__ = ("_excluded", "_wanted")

    def __init__(self, excluded: Collection[AnyMember], wanted: Container[AnyMember]) -> None:
        self._excluded = excluded
        self._wanted = wanted

    def __contains__(self, member: object) -> bool:
        return member in self._excluded or member not in self._wanted

    def __iter__(self) -> Iterator[AnyMember]:
        return iter(self._excluded)

    def __len__(self) -> int:
        return len(self._excluded)
