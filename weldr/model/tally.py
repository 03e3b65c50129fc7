"""What is counted of the requests that went one way: small, and merged by adding. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from weldr.model.latency import MOST_BUCKETS

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
"""Whatever else a client sends counts as `OTHER`, so that no client can make up a series."""
OTHER = "OTHER"

STATUS_CLASSES = 6
"""1xx to 5xx, and 0 where the client had gone before there was an answer. A status of 600 or more counts as one
of 5xx, which is how a client is to take it (RFC 9110, section 15)."""


KINDS = (len(METHODS) + 1) * STATUS_CLASSES * MOST_BUCKETS
"""How many there are by method, status and latency."""
APART = KINDS
"""Added to the kind of a request whose backend's latency is not the whole request's, within microseconds."""
BY_ROUTE = 2 * KINDS
"""Added as often as the number of the request's route says; the number 0 is none."""


def kind_of(method_index: int, status: int, bucket: int) -> int:
    """One number for the method, by its place in `METHODS`, the status's class and the latency's bucket."""
    status_class = min(status // 100, STATUS_CLASSES - 1)
    return (method_index * STATUS_CLASSES + status_class) * MOST_BUCKETS + bucket


class Counted(NamedTuple):
    """So many requests of one kind."""

    method: str
    status_class: int
    bucket: int
    requests: int


class Tally(msgspec.Struct):
    """Counts of requests to one backend of a service; `backend` is empty for those that reached none."""

    service: str
    backend: str
    counts: dict[int, int] = {}
    """By `kind_of`. The latency is that from the request's head to the response's end. As a worker sends it,
    with `APART` and `BY_ROUTE` added."""
    request_bytes: int = 0
    """Of bodies."""
    response_bytes: int = 0
    """Of bodies."""
    errors: dict[str, int] = {}
    """Those that weldr answered itself for an error, by its type in RFC 9209."""
    backend_latencies: dict[int, int] = {}
    """Of those whose latency is `APART`: from the last sending of the request to the response's head.
    By bucket; those that had no response are not among them."""

    def add(self, other: Tally) -> None:
        """Count what `other`, as a worker sent it, counted, too."""
        for kind, count in other.counts.items():
            plain = kind % KINDS
            self.counts[plain] = self.counts.get(plain, 0) + count
        for error, count in other.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count
        for bucket, count in other.latencies_of_backend():
            self.backend_latencies[bucket] = self.backend_latencies.get(bucket, 0) + count
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes

    def counted(self) -> Iterator[Counted]:
        """The counts, with what their kinds mean."""
        for kind, count in self.counts.items():
            row, bucket = divmod(kind % KINDS, MOST_BUCKETS)
            index, status_class = divmod(row, STATUS_CLASSES)
            yield Counted(METHODS[index] if index < len(METHODS) else OTHER, status_class, bucket, count)

    def latencies_of_backend(self) -> Iterator[tuple[int, int]]:
        """Of a tally as a worker sent it: how long the backend took, as bucket and count."""
        yield from self.backend_latencies.items()
        if self.backend:
            for kind, count in self.counts.items():
                if not kind // APART % 2:
                    yield kind % MOST_BUCKETS, count
