"""Sums of requests by service and by route. Unlike those of backends they never shrink when a backend goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from weldr.model.latency import MOST_BUCKETS
from weldr.model.tally import BY_ROUTE, KINDS, Tally

NO_ROUTE = ""


@dataclass(slots=True)
class ServiceSums:
    """One service."""

    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Requests by route and by method and status together, which is a kind without its latency."""
    latencies: Counter[int] = field(default_factory=Counter)
    """Of whole requests, by bucket."""
    backend_latencies: Counter[int] = field(default_factory=Counter)
    """Of the backends, by bucket."""
    errors: Counter[str] = field(default_factory=Counter)
    """By the type of RFC 9209."""
    request_bytes: int = 0
    response_bytes: int = 0


class RequestSums:
    """Owner of the sums since the instance began."""

    def __init__(self) -> None:
        self.services: dict[str, ServiceSums] = {}
        """Empty is the name of none: what was no request that could be routed."""

    def add(self, tally: Tally, routes: Sequence[str]) -> None:
        """Count what a worker counted; `routes` are the names by their numbers in it, from 1 on."""
        sums = self.services.setdefault(tally.service, ServiceSums())
        names = (NO_ROUTE, *routes)
        for kind, count in tally.counts.items():
            row, bucket = divmod(kind % KINDS, MOST_BUCKETS)
            sums.rows[names[kind // BY_ROUTE], row] += count
            sums.latencies[bucket] += count
        for bucket, count in tally.latencies_of_backend():
            sums.backend_latencies[bucket] += count
        sums.errors.update(tally.errors)
        sums.request_bytes += tally.request_bytes
        sums.response_bytes += tally.response_bytes

    def keep(self, services: Container[str], routes: Container[str]) -> None:
        """Forget all other services and routes: nobody bounds how many come and go."""
        self.services = {name: sums for name, sums in self.services.items() if name in services}
        for sums in self.services.values():
            for route, row in [each for each in sums.rows if each[0] and each[0] not in routes]:
                del sums.rows[route, row]
