"""Consistent hashing: the same key goes to the same member, in every worker and on every instance.

Members have points on a ring, made from their names alone, and a key goes to the next point (Karger, 1997).
Which keys move when a member comes or goes is decided by that one's points: nobody else's key does. Who was
there before, and in which order they came, makes no difference.

Weights would need numbers of points that are far apart. So members stand on several rings, one for each power
of four, with 64 to 256 points each, and a key goes to the ring where the next point is nearest when distances
are divided by that power (the "linear method" of Schindelhauer and Schomaker, 2005). Since distances are
distributed exponentially, shares follow the weights, and the same holds as on one ring: a change moves no
other keys. And a key has three places on each ring, of which the one nearest to a point counts ("multi-probe
consistent hashing", Appleton and O'Reilly, 2015): that evens out shares as many more points would, which take
memory and time.

The load is bounded (Mirrokni, Thorup and Zadimoghaddam, 2016): a member with more than `bound` times the mean
of requests in flight is passed over, and so is one that is full. The mean is that of a sample where there are
many.
"""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Callable, Collection
from hashlib import shake_128
from typing import Generic

from weldr.proxy.balancing.balancer import Chance, MemberType
from weldr.proxy.balancing.ring import MOST_NUMBERS, PLACE_BITS, Ring

_MOST_POINTS = 256
"""At the heaviest weight of a ring; a quarter of them at the lightest."""
_POINT_BYTES = 8
_PLACES = 1 << PLACE_BITS
_PROBES = (1, 0x9E3779B97F4A7C15, 0xD1342543DE82EF95)
"""Odd numbers, by which a key has several places."""
_MOST_STEPS = 8 * _MOST_POINTS
_SAMPLE = 32
_NEVER_TOO_MANY = 8
"""Requests in flight that are no load to speak of."""


class ConsistentHash(Generic[MemberType]):
    """A `Balancer`. It holds up to a million members."""

    __slots__ = (
        "_bound",
        "_chance",
        "_expected",
        "_free",
        "_members",
        "_name",
        "_numbers",
        "_rings",
        "_weights",
    )

    def __init__(
        self, name: Callable[[MemberType], bytes], bound: float, chance: Chance = random.random
    ) -> None:
        """`name` is what a member's points are made from. `bound` is explained in the module."""
        self._name = name
        self._bound = bound
        self._chance = chance
        self._rings: dict[int, Ring] = {}
        """By the power of four that bounds the weights in it."""
        self._numbers: dict[MemberType, int] = {}
        self._members: list[MemberType | None] = []
        """By number."""
        self._free: list[int] = []
        self._weights: dict[MemberType, int] = {}
        self._expected = 0

    def expect(self, members: int) -> None:
        """So many will soon be put in."""
        self._expected = members

    def put(self, member: MemberType, weight: int) -> None:
        """Add a member, or change its weight."""
        if self._weights.get(member) == weight:
            return
        self.remove(member)
        if not self._free:
            if len(self._members) == MOST_NUMBERS:
                return
            self._free.append(len(self._members))
            self._members.append(None)
        number = self._free.pop()
        self._members[number] = member
        self._numbers[member] = number
        self._weights[member] = weight
        bound = _bound(weight)
        if bound not in self._rings:
            self._rings[bound] = Ring(self._expected * _points(weight))
        self._rings[bound].add(_places(self._name(member), weight), number)

    def remove(self, member: MemberType) -> None:
        """Forget a member, if it is one."""
        weight = self._weights.pop(member, None)
        if weight is None:
            return
        number = self._numbers.pop(member)
        self._members[number] = None
        self._free.append(number)
        bound = _bound(weight)
        self._rings[bound].remove(_places(self._name(member), weight), number)
        if not self._rings[bound]:
            del self._rings[bound]

    def pick(
        self, excluded: Collection[MemberType], key: int | None = None, now_s: float = 0.0
    ) -> MemberType | None:
        """The member that this key belongs to, or the next after it. Without a key, one by chance."""
        if not self._weights:
            return None
        if key is None:
            key = int(self._chance() * (1 << 53)) << 11
        places = [key * factor % _PLACES for factor in _PROBES]
        nearest = self._nearest(places)
        # Nearly always: so the others are looked for only then.
        if nearest is not None and nearest not in excluded and not self._is_overloaded(nearest):
            return nearest
        for accepts in (
            lambda member: member not in excluded and not self._is_overloaded(member),
            lambda member: member not in excluded,
        ):
            nearest = self._nearest_of(places, accepts)
            if nearest is not None:
                return nearest
        return next((member for member in self._weights if member not in excluded), None)

    def _nearest(self, places: list[int]) -> MemberType | None:
        if len(self._rings) == 1:
            [ring] = self._rings.values()
            _, number = min(map(ring.next, places))
        else:
            _, number = min(
                (distance / bound, number)
                for bound, ring in self._rings.items()
                for distance, number in map(ring.next, places)
            )
        return self._members[number]

    def _nearest_of(self, places: list[int], accepts: Callable[[MemberType], bool]) -> MemberType | None:
        members = self._members

        def takes(number: int) -> bool:
            member = members[number]
            return member is not None and accepts(member)

        found = [
            (near[0] / bound, near[1])
            for bound, ring in self._rings.items()
            for place in places
            if (near := ring.next_of(place, takes, _MOST_STEPS)) is not None
        ]
        return members[min(found)[1]] if found else None

    def _is_overloaded(self, member: MemberType) -> bool:
        if member.full:
            return True
        if member.in_flight < _NEVER_TOO_MANY:
            return False
        weights = self._weights
        in_flight = weight = 0
        for each in self._sample():
            in_flight += each.in_flight
            weight += weights[each]
        return member.in_flight + 1 > self._bound * (in_flight + 1) * weights[member] / weight

    def _sample(self) -> Collection[MemberType]:
        members = self._members
        if len(members) <= _SAMPLE:
            return self._weights
        drawn = (members[int(self._chance() * len(members))] for _ in range(_SAMPLE))
        return [each for each in drawn if each is not None] or self._weights


def _bound(weight: int) -> int:
    """The lowest power of four that is not below the weight."""
    return 1 << ((weight - 1).bit_length() + 1 & ~1)


def _points(weight: int) -> int:
    return max(1, round(_MOST_POINTS * weight / _bound(weight)))


def _places(name: bytes, weight: int) -> list[int]:
    places = array("Q", shake_128(name).digest(_points(weight) * _POINT_BYTES))
    if sys.byteorder == "little":
        places.byteswap()
    return places.tolist()
