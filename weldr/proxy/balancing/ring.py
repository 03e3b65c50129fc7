"""Points on a ring, each with the number of whom it belongs to; the next one after a place is found at once.

A point is 64 bits: its place in the upper ones, the number in the lower ones, so that it takes eight bytes
and no object. The ring is cut into as many equal arcs as keep a few dozen points in each, which makes a point
that comes or goes a matter of its own arc alone. In smaller ones points would hardly be found sooner, but each
arc is an object that Python's collector looks at while requests wait: 18 ms for a quarter of a million. A ring
that grows is cut arc by arc, each when it is next looked at.
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
_FULL_ARC = 128
"""So many points in an arc on average are too many, ..."""
_GROWTH_BITS = 2
"""... and the arcs are cut in four."""
_PARTS = 1 << _GROWTH_BITS
_EMPTY = array("Q")
"""Shared by all arcs that have had no point yet; never changed."""


class Ring:
    """See the module."""

    __slots__ = ("_arcs", "_points", "_shift", "_uncut")

    def __init__(self, expected: int = 0) -> None:
        """`expected` is how many points there will soon be: to cut a ring that has many takes a while."""
        self._points = 0
        bits = _FIRST_ARC_BITS
        while expected > _FULL_ARC << bits:
            bits += _GROWTH_BITS
        self._shift = PLACE_BITS - bits
        self._arcs: list[array[int] | None] = [_EMPTY] * (1 << bits)
        """`None` is part of an arc that is still whole, ..."""
        self._uncut: list[array[int] | None] = []
        """... which is here."""

    def __len__(self) -> int:
        return self._points

    def _grow(self) -> None:
        for index in range(0, len(self._arcs), _PARTS):
            if self._arcs[index] is None:
                self._cut(index)
        self._shift -= _GROWTH_BITS
        self._uncut, self._arcs = self._arcs, [None] * (len(self._arcs) * _PARTS)

    def _arc(self, index: int) -> array[int]:
        arc = self._arcs[index]
        return self._cut(index) if arc is None else arc

    def _cut(self, index: int) -> array[int]:
        """Cut the whole arc of which this one is part."""
        whole, first = self._uncut[index >> _GROWTH_BITS], index & -_PARTS
        assert whole is not None
        self._uncut[index >> _GROWTH_BITS] = None
        start = 0
        for part in range(first, first + _PARTS):
            end = bisect_left(whole, part + 1 << self._shift, start)
            self._arcs[part] = whole[start:end] if end > start else _EMPTY
            start = end
        return self._arc(index)

    def add(self, places: Sequence[int], number: int) -> None:
        """Points of `number` at these places, of which the lowest bits do not count."""
        arcs, shift = self._arcs, self._shift
        for place in places:
            point = place & ~_NUMBER | number
            arc = arcs[point >> shift]
            if arc is None:
                arc = self._cut(point >> shift)
            if arc is _EMPTY:
                arcs[point >> shift] = array("Q", (point,))
            else:
                insort(arc, point)
        self._points += len(places)
        if self._points > _FULL_ARC * len(arcs):
            self._grow()

    def remove(self, places: Iterable[int], number: int) -> None:
        """What `add` has added with the same arguments."""
        for place in places:
            point = place & ~_NUMBER | number
            arc = self._arc(point >> self._shift)
            del arc[bisect_left(arc, point)]
            self._points -= 1

    def next(self, place: int) -> tuple[int, int]:
        """How far it is from `place` to the next point, and its number. There has to be a point."""
        arcs = self._arcs
        index = place >> self._shift
        arc = arcs[index]
        if arc is None:
            arc = self._cut(index)
        position = bisect_left(arc, place)
        while position == len(arc):
            index = (index + 1) % len(arcs)
            arc, position = self._arc(index), 0
        point = arc[position]
        return (point - place) % _SIZE, point & _NUMBER

    def next_of(self, place: int, accepts: Callable[[int], bool], most: int) -> tuple[int, int] | None:
        """The same for the next point whose number is accepted; `None` if that is none of the next `most`."""
        arcs = self._arcs
        index = place >> self._shift
        arc = self._arc(index)
        position = bisect_left(arc, place)
        for _ in range(min(most, self._points)):
            while position == len(arc):
                index = (index + 1) % len(arcs)
                arc, position = self._arc(index), 0
            point = arc[position]
            if accepts(point & _NUMBER):
                return (point - place) % _SIZE, point & _NUMBER
            position += 1
        return None
