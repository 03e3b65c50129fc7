"""Points on a ring, each with the number of whom it belongs to; the next one after a place is found at once.

A point is 64 bits: its place in the upper ones, the number in the lower ones, so that it takes eight bytes
and no object. The ring is cut into as many equal arcs as keep a few points in each, which makes a point that
comes or goes a matter of its own arc alone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence

PLACE_BITS = 64
NUMBER_BITS = 20
MOST_NUMBERS = 1 << NUMBER_BITS
_NUMBER = MOST_NUMBERS - 1
_SIZE = 1 << PLACE_BITS
_FIRST_ARC_BITS = 4
_FULL_ARC = 16
"""So many points in an arc on average are too many, ..."""
_GROWTH_BITS = 2
"""... and the arcs are cut in four."""
_PARTS = 1 << _GROWTH_BITS
_EMPTY = array("Q")
"""Shared by all arcs that have had no point yet; never changed."""


class Ring:
    """See the module."""

    __slots__ = ("_arcs", "_points", "_shift")

    def __init__(self, expected: int = 0) -> None:
        """`expected` is how many points there will soon be: to cut a ring that has many takes a while."""
        self._points = 0
        bits = _FIRST_ARC_BITS
        while expected > _FULL_ARC << bits:
            bits += _GROWTH_BITS
        self._shift = PLACE_BITS - bits
        self._arcs = [_EMPTY] * (1 << bits)

    def __len__(self) -> int:
        return self._points

    def _cut(self) -> None:
        self._shift -= _GROWTH_BITS
        cut, bound = [], 0
        for arc in self._arcs:
            start = 0
            for _ in range(_PARTS - 1):
                bound += 1
                end = bisect_left(arc, bound << self._shift, start)
                cut.append(arc[start:end])
                start = end
            bound += 1
            cut.append(arc[start:])
        self._arcs = cut

    def add(self, places: Sequence[int], number: int) -> None:
        """Points of `number` at these places, of which the lowest bits do not count."""
        arcs, shift = self._arcs, self._shift
        for place in places:
            point = place & ~_NUMBER | number
            arc = arcs[point >> shift]
            if arc is _EMPTY:
                arcs[point >> shift] = array("Q", (point,))
            else:
                insort(arc, point)
        self._points += len(places)
        if self._points > _FULL_ARC * len(arcs):
            self._cut()

    def remove(self, places: Iterable[int], number: int) -> None:
        """What `add` has added with the same arguments."""
        for place in places:
            point = place & ~_NUMBER | number
            arc = self._arcs[point >> self._shift]
            del arc[bisect_left(arc, point)]
            self._points -= 1

    def next(self, place: int) -> tuple[int, int]:
        """How far it is from `place` to the next point, and its number. There has to be a point."""
        arcs = self._arcs
        index = place >> self._shift
        arc = arcs[index]
        position = bisect_left(arc, place)
        while position == len(arc):
            index = (index + 1) % len(arcs)
            arc, position = arcs[index], 0
        point = arc[position]
        return (point - place) % _SIZE, point & _NUMBER

    def next_of(self, place: int, accepts: Callable[[int], bool], most: int) -> tuple[int, int] | None:
        """The same for the next point whose number is accepted; `None` if that is none of the next `most`."""
        arcs = self._arcs
        index = place >> self._shift
        position = bisect_left(arcs[index], place)
        for _ in range(min(most, self._points)):
            while position == len(arcs[index]):
                index, position = (index + 1) % len(arcs), 0
            point = arcs[index][position]
            if accepts(point & _NUMBER):
                return (point - place) % _SIZE, point & _NUMBER
            position += 1
        return None
