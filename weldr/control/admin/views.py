"""What this instance itself has to tell: which keys it cannot understand, and what its workers counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.mirror import Mirror
from weldr.control.worker import WorkerSlot
from weldr.control.worker_pool import WorkerPool
from weldr.model.catalog import Problem
from weldr.model.incidents import Incidents
from weldr.model.latency import quantile_s
from weldr.model.tally import Tally
from weldr.model.traffic import Traffic

_MOST_PROBLEMS = 1000


class Problems(msgspec.Struct, frozen=True):
    """Keys that cannot be understood, or not beside others, the first of `count`."""

    revision: int
    count: int
    items: list[Problem]


class WorkerStats(msgspec.Struct, frozen=True):
    """A worker now, and its requests since it started; `null` before its first word."""

    worker: str
    state: str
    applied_revision: int
    connections: int | None
    requests: int | None
    in_flight: int | None


class WayStats(msgspec.Struct, frozen=True):
    """Requests to one backend of a service since the instance began; `backend` is empty for those to none."""

    service: str
    backend: str
    requests: int
    responses: dict[str, int]
    """By class of status, as in `2xx`; `none` where the client had gone before there was an answer."""
    p50_s: float | None
    p99_s: float | None
    request_bytes: int
    response_bytes: int


class ServiceStats(msgspec.Struct, frozen=True):
    """What befell the requests of one service since the instance began, and how it is now."""

    incidents: Incidents
    ejected: list[str]
    """Its backends that are out or on trial in any worker, for their failures."""
    resting: list[str]
    """Likewise, because they asked for that."""
    panicking_workers: int
    """Those that use all its backends since too few are healthy."""
    open_circuit_workers: int
    """Those whose circuit breaker for it is not closed."""


class Stats(msgspec.Struct, frozen=True):
    """This instance."""

    instance: str
    revision: int
    applied_revision: int
    workers: list[WorkerStats]
    ways: list[WayStats]
    services: list[ServiceStats]
    """Those of which there is anything to tell."""
    draining: dict[str, int]
    """Requests in flight by `<service>/<id>`, for backends that get no new ones."""


class OlderCount(msgspec.Struct, frozen=True):
    """Requests that were answered, and those that failed: by a status of 5xx or without an answer."""

    success: int
    failed: int


class OlderStats(msgspec.Struct, frozen=True):
    """All requests of clients, and those of them that reached a backend."""

    client: OlderCount
    server: OlderCount


class OlderDetail(msgspec.Struct, frozen=True):
    """A backend's requests."""

    id: str
    ip: str
    port: str
    success: int
    failed: int


class Views:
    """Handles requests on what is no key."""

    def __init__(self, mirror: Mirror, pool: WorkerPool, instance: str, traffic: Callable[[], Traffic]) -> None:
        self._mirror = mirror
        self._pool = pool
        self._instance = instance
        self._traffic = traffic

    def endpoints(self) -> list[Endpoint]:
        """All of them; the last two are calls of the earlier weldr (hjr3/weldr)."""
        return [
            Endpoint(
                "GET",
                "/api/v1/problems",
                "problems_list",
                "Keys that cannot be understood",
                self._problems,
                {200: Problems},
            ),
            Endpoint("GET", "/api/v1/stats", "stats", "This instance's counts", self._stats, {200: Stats}),
            Endpoint("GET", "/stats", "stats_sums", "Sums of counts", self._sums, {200: OlderStats}),
            Endpoint(
                "GET",
                "/stats/detail",
                "stats_detail",
                "Counts by backend",
                self._detail,
                {200: {"type": "array", "items": OlderDetail}},
            ),
        ]

    async def _problems(self, call: Call) -> web.Response:
        problems = self._mirror.problems
        first = [problems[key] for key in sorted(problems)[:_MOST_PROBLEMS]]
        return json_answer(Problems(self._mirror.revision, len(problems), first))

    async def _stats(self, call: Call) -> web.Response:
        pool = self._pool
        found = Stats(
            instance=self._instance,
            revision=self._mirror.revision,
            applied_revision=pool.applied_revision,
            workers=[_worker(slot) for slot in pool.slots],
            ways=[_way(tally) for tally in pool.statistics.tallies.values()],
            services=_services(pool),
            draining={f"{service}/{name}": count for (service, name), count in pool.in_flight.items()},
        )
        return json_answer(found)

    async def _sums(self, call: Call) -> web.Response:
        tallies = self._pool.statistics.tallies.values()
        return json_answer(
            OlderStats(
                client=_older(_by_class(*tallies)),
                server=_older(_by_class(*(tally for tally in tallies if tally.backend))),
            )
        )

    async def _detail(self, call: Call) -> web.Response:
        tallies = self._pool.statistics.tallies
        found = []
        for service, traffic in self._traffic().services.items():
            for name, backend in traffic.backends.items():
                tally = tallies.get((service, name))
                count = _older(_by_class(*([tally] if tally else [])))
                port = str(backend.port)
                found.append(OlderDetail(f"{service}/{name}", backend.host, port, count.success, count.failed))
        return json_answer(found)


def _worker(slot: WorkerSlot) -> WorkerStats:
    beat = slot.beat
    return WorkerStats(
        worker=slot.name,
        state=slot.state.value,
        applied_revision=slot.applied_revision,
        connections=beat.connections if beat else None,
        requests=beat.requests if beat else None,
        in_flight=beat.in_flight if beat else None,
    )


def _way(tally: Tally) -> WayStats:
    latencies: Counter[int] = Counter()
    for counted in tally.counted():
        latencies[counted.bucket] += counted.requests
    classes = _by_class(tally)
    return WayStats(
        service=tally.service,
        backend=tally.backend,
        requests=classes.total(),
        responses={f"{number}xx" if number else "none": count for number, count in sorted(classes.items())},
        p50_s=quantile_s(latencies, 0.5),
        p99_s=quantile_s(latencies, 0.99),
        request_bytes=tally.request_bytes,
        response_bytes=tally.response_bytes,
    )


def _services(pool: WorkerPool) -> list[ServiceStats]:
    counted = pool.statistics.incidents
    sparings = pool.sparings
    panicking = Counter(name for each in sparings for name in each.panicking)
    open_circuits = Counter(name for each in sparings for name in each.open_circuits)
    spared: dict[bool, dict[str, set[str]]] = {False: {}, True: {}}
    for sparing in sparings:
        for each in sparing.spared:
            spared[each.asked].setdefault(each.key[0], set()).add(each.key[1])
    ejected, resting = spared[False], spared[True]
    return [
        ServiceStats(
            incidents=counted.get(name) or Incidents(service=name),
            ejected=sorted(ejected.get(name, ())),
            resting=sorted(resting.get(name, ())),
            panicking_workers=panicking[name],
            open_circuit_workers=open_circuits[name],
        )
        for name in sorted({*counted, *ejected, *resting, *panicking, *open_circuits})
    ]


def _by_class(*tallies: Tally) -> Counter[int]:
    classes: Counter[int] = Counter()
    for tally in tallies:
        for counted in tally.counted():
            classes[counted.status_class] += counted.requests
    return classes


def _older(classes: Counter[int]) -> OlderCount:
    failed = classes[0] + classes[5]
    return OlderCount(classes.total() - failed, failed)
