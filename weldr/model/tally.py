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
    """By `kind_of`. The latency is that from the request's head to the response's end."""
    request_bytes: int = 0
    """Of bodies."""
    response_bytes: int = 0
    """Of bodies."""

    def add(self, other: Tally) -> None:
        """Count what `other` counted, too."""
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes

    def counted(self) -> Iterator[Counted]:
        """The counts, with what their kinds mean."""
        for kind, count in self.counts.items():
            row, bucket = divmod(kind, MOST_BUCKETS)
            index, status_class = divmod(row, STATUS_CLASSES)
            yield Counted(METHODS[index] if index < len(METHODS) else OTHER, status_class, bucket, count)
