"""The record of every request: counted, and some of them written to the access log.

What was counted is taken away every second: so it is bounded by what is in use, and nothing is left of a
backend that has gone.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Protocol

from weldr.model.frames import Tallies
from weldr.model.incidents import Incidents
from weldr.model.latency import LINEAR_BITS, TICK_BITS, bucket_of
from weldr.model.tally import APART, BY_ROUTE, METHODS, Tally, kind_of
from weldr.proxy.access_log import AccessLog, LoggedRequest
from weldr.proxy.request_fields import RequestRefusedError

if TYPE_CHECKING:
    from weldr.proxy.routing.compiled import CompiledRoute

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

    __slots__ = ("_incidents", "_routes", "_tallies", "access_log")

    def __init__(self, access_log: AccessLog) -> None:
        self.access_log = access_log
        self._tallies: dict[Way, Tally] = {}
        self._routes: list[CompiledRoute] = []
        """Those that have a number, by it, from 1 on: until what was counted is taken."""
        self._incidents: dict[str, Incidents] = {}

    def record(self, way: Way, request: Recorded, status: int, backend_ns: int | None = None) -> None:
        """It has ended with this status; 0 if nobody was left to answer.

        `backend_ns` is how long the backend took from the last sending of the request to the response's head: 0
        if there was none, `None` if all the time was the backend's.
        """
        tally = self._tallies.get(way)
        if tally is None:
            tally = self._new_tally(way)
        elapsed_ns = perf_counter_ns() - request.started_ns
        # As `kind_of` and `bucket_of`, without the calls.
        kind = _KIND_OF_METHOD.get(request.head.method, _KIND_OF_OTHER) + _KIND_OF_STATUS[status]
        ticks = elapsed_ns >> TICK_BITS
        shift = ticks.bit_length() - LINEAR_BITS - 1
        kind += ticks if shift < 0 else (shift << LINEAR_BITS) + (ticks >> shift)
        route = request.route
        if route is not None:
            kind += (route.number or self._number(route)) * BY_ROUTE
        if backend_ns is not None:
            kind += APART
            if backend_ns:
                bucket = bucket_of(backend_ns >> TICK_BITS)
                tally.backend_latencies[bucket] = tally.backend_latencies.get(bucket, 0) + 1
        counts = tally.counts
        counts[kind] = counts.get(kind, 0) + 1
        tally.request_bytes += request.request_bytes
        tally.response_bytes += request.response_bytes
        log = self.access_log
        if status >= 500 or elapsed_ns > log.slow_ns or (log.sample and log.samples()):
            log.write(request, way, status, elapsed_ns / 1e9)

    def refused(self, client: str, refusal: RequestRefusedError, error: str | None, request_id: str) -> None:
        """What came was no request that could be routed, and is answered with this refusal for this error."""
        status = refusal.status
        tally = self._tallies.get(_NO_WAY) or self._new_tally(_NO_WAY)
        kind = _KIND_OF_OTHER + _KIND_OF_STATUS[status]
        tally.counts[kind] = tally.counts.get(kind, 0) + 1
        if error is not None:
            self.failed(_NO_WAY, error)
        self.access_log.write_refused(client, refusal, error, request_id)

    def failed(self, way: Way, error: str) -> None:
        """A request that went this way is answered by weldr, or its response cut off, for this error."""
        tally = self._tallies.get(way) or self._new_tally(way)
        tally.errors[error] = tally.errors.get(error, 0) + 1

    def _number(self, route: CompiledRoute) -> int:
        """Small numbers, for those only that are in use: a number makes no tuple that has to be hashed."""
        self._routes.append(route)
        route.number = len(self._routes)
        return route.number

    def _new_tally(self, way: Way) -> Tally:
        service, backend = way
        tally = self._tallies[way] = Tally(service, backend)
        return tally

    def incidents(self, service: str) -> Incidents:
        """Of this service, to count in at once: they are soon taken away."""
        held = self._incidents.get(service)
        if held is None:
            held = self._incidents[service] = Incidents(service=service)
        return held

    def take(self) -> Tallies:
        """What has been counted since the last call."""
        tallies, self._tallies = self._tallies, {}
        routes, self._routes = self._routes, []
        for route in routes:
            route.number = 0
        incidents, self._incidents = self._incidents, {}
        dropped = self.access_log.writer.take_dropped()
        names = [route.name for route in routes]
        return Tallies(list(tallies.values()), dropped, names, list(incidents.values()))
