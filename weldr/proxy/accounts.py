"""The record of every request: counted, and some of them written to the access log.

What was counted is taken away every second: so it is bounded by what is in use, and nothing is left of a
backend that has gone.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import Protocol

from weldr.model.frames import Tallies
from weldr.model.latency import LINEAR_BITS, TICK_BITS
from weldr.model.tally import METHODS, Tally, kind_of
from weldr.proxy.access_log import AccessLog, LoggedRequest

_KIND_OF_METHOD = {method.encode("ascii"): kind_of(index, 0, 0) for index, method in enumerate(METHODS)}
_KIND_OF_OTHER = kind_of(len(METHODS), 0, 0)
_KIND_OF_STATUS = [kind_of(0, status, 0) for status in range(1000)]

Way = tuple[str, str]
"""Service and backend; no backend where none was reached."""
_NO_WAY: Way = ("", "")


class Recorded(LoggedRequest, Protocol):
    """A request that has ended."""

    started_ns: int
    """By `perf_counter_ns`."""


class Accounts:
    """Owner of the counts of this worker."""

    __slots__ = ("_tallies", "access_log")

    def __init__(self, access_log: AccessLog) -> None:
        self.access_log = access_log
        self._tallies: dict[Way, Tally] = {}

    def record(self, way: Way, request: Recorded, status: int) -> None:
        """It has ended with this status; 0 if nobody was left to answer."""
        tally = self._tallies.get(way)
        if tally is None:
            tally = self._new_tally(way)
        elapsed_ns = perf_counter_ns() - request.started_ns
        # As `kind_of` and `bucket_of`, without the calls.
        kind = _KIND_OF_METHOD.get(request.head.method, _KIND_OF_OTHER) + _KIND_OF_STATUS[status]
        ticks = elapsed_ns >> TICK_BITS
        shift = ticks.bit_length() - LINEAR_BITS - 1
        kind += ticks if shift < 0 else (shift << LINEAR_BITS) + (ticks >> shift)
        counts = tally.counts
        counts[kind] = counts.get(kind, 0) + 1
        tally.request_bytes += request.request_bytes
        tally.response_bytes += request.response_bytes
        log = self.access_log
        if status >= 500 or elapsed_ns > log.slow_ns or (log.sample and log.samples()):
            log.write(request, way, status, elapsed_ns / 1e9)

    def refused(self, status: int) -> None:
        """What came was no request that could be routed, and was answered with this status."""
        tally = self._tallies.get(_NO_WAY) or self._new_tally(_NO_WAY)
        kind = _KIND_OF_OTHER + _KIND_OF_STATUS[status]
        tally.counts[kind] = tally.counts.get(kind, 0) + 1

    def _new_tally(self, way: Way) -> Tally:
        service, backend = way
        tally = self._tallies[way] = Tally(service, backend)
        return tally

    def take(self) -> Tallies:
        """What has been counted since the last call."""
        tallies, self._tallies = self._tallies, {}
        return Tallies(list(tallies.values()), self.access_log.writer.take_dropped())
