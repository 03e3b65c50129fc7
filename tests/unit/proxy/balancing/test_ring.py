"""A ring finds what a sorted list of its points would, also while it grows."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left

import pytest

from weldr.proxy.balancing.ring import MOST_NUMBERS, Ring

_SIZE = 1 << 64


class SortedRing:
    """The same, slowly."""

    def __init__(self) -> None:
        self.points: list[tuple[int, int]] = []

    def next_of(self, place: int, numbers: range) -> tuple[int, int]:
        points = [point for point in self.points if point[1] in numbers]
        found, number = points[bisect_left(points, (place, -1)) % len(points)]
        return (found + number - place) % _SIZE, number


@pytest.mark.parametrize("expected", [0, 20_000])
def test_points_that_come_and_go_are_found_as_in_a_sorted_list(expected: int) -> None:
    drawn = random.Random(expected)
    ring, right = Ring(expected), SortedRing()
    places: dict[int, list[int]] = {}
    numbers = itertools.count()
    # It grows at the end of the third step, and again in the fourth, where so many lie close together that
    # some arcs are still whole.
    for size, span in ((1, _SIZE), (100, _SIZE >> 6), (2_050, _SIZE), (8_200, _SIZE >> 6), (300, _SIZE)):
        while len(ring) < size:
            number = next(numbers)
            places[number] = [drawn.randrange(span) // MOST_NUMBERS * MOST_NUMBERS for _ in range(97)]
            ring.add(places[number], number)
        for number in list(places):
            if len(ring) > size + 97:
                ring.remove(places.pop(number), number)
        right.points = sorted((place, number) for number, each in places.items() for place in each)
        assert len(ring) == len(right.points)
        some = range(min(places), max(places) + 1, 3)
        for _ in range(15):
            place = drawn.randrange(_SIZE)
            assert ring.next(place) == right.next_of(place, range(MOST_NUMBERS))
            assert ring.next_of(place, some.__contains__, len(ring)) == right.next_of(place, some)
    assert ring.next_of(0, lambda number: False, 10) is None
