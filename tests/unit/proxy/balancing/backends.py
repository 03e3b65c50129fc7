"""Members for the policies, and chance that repeats itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from math import sqrt

from weldr.proxy.balancing.latency import PeakLatency


class Backend:
    """A member by its name."""

    def __init__(self, name: str, *, in_flight: int = 0) -> None:
        self.name = name
        self.in_flight = in_flight
        self.limit = 1_000_000
        self.latency: PeakLatency | None = None

    @property
    def full(self) -> bool:
        return self.in_flight >= self.limit

    def __repr__(self) -> str:
        return self.name


def backends(count: int) -> list[Backend]:
    return [Backend(f"b{number}") for number in range(count)]


def name_of(backend: Backend) -> bytes:
    return backend.name.encode()


def seeded(seed: int = 1) -> random.Random:
    return random.Random(seed)


def within_the_bound(counts: Counter[Backend], weights: Iterable[tuple[Backend, float]]) -> None:
    """Each count is as near to its share as chance lets it be but once in 30,000 cases (four deviations)."""
    pairs = list(weights)
    total, sum_of_weights = sum(counts.values()), sum(weight for _, weight in pairs)
    for backend, weight in pairs:
        share = weight / sum_of_weights
        assert abs(counts[backend] - total * share) <= 4 * sqrt(total * share * (1 - share)), backend
