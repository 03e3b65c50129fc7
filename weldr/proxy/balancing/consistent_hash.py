"""Consistent hashing: the same key goes to the same member, in every worker and on every instance.

Members have points on a ring, made from their names alone, and a key goes to the next point (Karger, 1997).
Which keys move when a member comes or goes is decided by that one's points: nobody else's key does. Who was
there before, and in which order they came, makes no difference.

Weights would need numbers of points that are far apart. So members stand on several rings, one for each power
of two, with 64 to 128 points each, and a key goes to the ring where the next point is nearest when distances
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
import struct
from collections.abc import Callable, Collection
from hashlib import blake2b
from typing import Generic

from weldr.proxy.balancing.balancer import Chance, MemberType
from weldr.proxy.balancing.ring import MOST_NUMBERS, PLACE_BITS, Ring

_POINTS = 128
"""At a weight that is a power of two; fewer below, but more than half as many."""
_POINTS_OF_DIGEST = 8
_digest_points = struct.Struct(f">{_POINTS_OF_DIGEST}Q")
_PLACES = 1 << PLACE_BITS
_PROBES = (1, 0x9E3779B97F4A7C15, 0xD1342543DE82EF95)
"""Odd numbers, by which a key has several places."""
_MOST_STEPS = 16 * _POINTS
_SAMPLE = 32
_NEVER_TOO_MANY = 8
"""Requests in flight that are no load to speak of."""


class ConsistentHash(Generic[MemberType]):
    """A `Balancer`. It holds up to a million members."""

    __slots__ = ("_bound", "_chance", "_free", "_members", "_name", "_numbers", "_rings", "_weights")

    def __init__(
        self, name: Callable[[MemberType], bytes], bound: float, chance: Chance = random.random
    ) -> None:
        """`name` is what a member's points are made from. `bound` is explained in the module."""
        self._name = name
        self._bound = bound
        self._chance = chance
        self._rings: dict[int, Ring] = {}
        """By the bits of the weights in it."""
        self._numbers: dict[MemberType, int] = {}
        self._members: list[MemberType | None] = []
        """By number."""
        self._free: list[int] = []
        self._weights: dict[MemberType, int] = {}

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
        bits = (weight - 1).bit_length()
        if bits not in self._rings:
            self._rings[bits] = Ring()
        self._rings[bits].add(_places(self._name(member), weight), number)

    def remove(self, member: MemberType) -> None:
        """Forget a member, if it is one."""
        weight = self._weights.pop(member, None)
        if weight is None:
            return
        number = self._numbers.pop(member)
        self._members[number] = None
        self._free.append(number)
        bits = (weight - 1).bit_length()
        self._rings[bits].remove(_places(self._name(member), weight), number)
        if not self._rings[bits]:
            del self._rings[bits]

    def pick(
        self, excluded: Collection[MemberType], key: int | None = None, now_s: float = 0.0
    ) -> MemberType | None:
        """The member that this key belongs to, or the next after it. Without a key, one by chance."""
        if not self._weights:
            return None
        if key is None:
            key = int(self._chance() * (1 << 53)) << 11
        nearest = self._nearest(key)
        # Nearly always: so the others are looked for only then.
        if nearest is not None and nearest not in excluded and not self._is_overloaded(nearest):
            return nearest
        for accepts in (
            lambda member: member not in excluded and not self._is_overloaded(member),
            lambda member: member not in excluded,
        ):
            nearest = self._nearest(key, accepts)
            if nearest is not None:
                return nearest
        return next((member for member in self._weights if member not in excluded), None)

    def _nearest(self, key: int, accepts: Callable[[MemberType], bool] | None = None) -> MemberType | None:
        members = self._members

        def takes(number: int) -> bool:
            member = members[number]
            return member is not None and (accepts is None or accepts(member))

        test, most = (None, 1) if accepts is None else (takes, _MOST_STEPS)
        best, best_distance = None, 0.0
        places = [key * factor % _PLACES for factor in _PROBES]
        for bits, ring in self._rings.items():
            for place in places:
                found = ring.next(place, test, most)
                if found is not None:
                    distance = found[0] / (1 << bits)
                    if best is None or distance < best_distance:
                        best, best_distance = members[found[1]], distance
        return best

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


def _places(name: bytes, weight: int) -> list[int]:
    count = max(1, round(_POINTS * weight / (1 << (weight - 1).bit_length())))
    places: list[int] = []
    while len(places) < count:
        salt = len(places).to_bytes(4, "big")
        places += _digest_points.unpack(blake2b(name, digest_size=64, salt=salt).digest())
    return places[:count]
