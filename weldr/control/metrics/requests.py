"""Metrics of requests: by service and route, and by backend.

Labels are names from the catalog, classes of methods and statuses, and types of errors: nothing that a client
can make up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.metrics_core import Metric

from weldr.control.metrics.exposition import Family
from weldr.control.request_sums import ServiceSums
from weldr.control.statistics import Statistics
from weldr.model.tally import METHODS, OTHER, STATUS_CLASSES, Tally

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")

Key = TypeVar("Key")
Value = TypeVar("Value")


def metrics_of_requests(statistics: Statistics) -> Iterator[Metric]:
    """All of them. What is counted meanwhile is in some families and not yet in others, but never in half of a
    histogram.
    """
    services, tallies = statistics.sums.services, statistics.tallies
    for family, add in _of_services():
        yield from _filled(family, services, add)
    backends = {way: tally for way, tally in tallies.items() if tally.backend}
    for family, add_backend in _of_backends():
        yield from _filled(family, backends, add_backend)
    dropped = Family("weldr_access_log_dropped_lines", "counter", "Lines that the access log could not take.")
    dropped.count({}, statistics.access_lines_dropped)
    yield from dropped.part(last=True)


def _filled(
    family: Family, things: Mapping[Key, Value], add: Callable[[Family, Key, Value], None]
) -> Iterator[Metric]:
    # Whoever counts goes on between two parts: so a list.
    for key, thing in list(things.items()):
        add(family, key, thing)
        yield from family.part()
    yield from family.part(last=True)


# Of services.

_ServiceAdder = Callable[[Family, str, ServiceSums], None]


def _of_services() -> Iterator[tuple[Family, _ServiceAdder]]:
    yield (
        Family(
            "weldr_requests",
            "counter",
            "Requests that have ended, by service (empty: none was found), route (empty: none), method, and "
            "class of status (none: the client had left before there was an answer).",
        ),
        _add_requests,
    )
    yield (
        Family(
            "weldr_request_duration_seconds",
            "histogram",
            "From a request's head to the end of its response.",
            unit="seconds",
        ),
        lambda family, name, sums: family.histogram({"service": name}, sums.latencies),
    )
    yield (
        Family(
            "weldr_backend_response_duration_seconds",
            "histogram",
            "From the last sending of a request to a backend to the head of its response; of short responses "
            "on kept connections, the whole request.",
            unit="seconds",
        ),
        _add_backend_latencies,
    )
    yield (
        Family(
            "weldr_errors",
            "counter",
            "Requests that weldr answered itself for an error, or whose response it cut off, by the type of "
            "RFC 9209.",
        ),
        _add_errors,
    )
    yield (
        Family("weldr_request_body_bytes", "counter", "Bytes of request bodies.", unit="bytes"),
        lambda family, name, sums: family.count({"service": name}, sums.request_bytes),
    )
    yield (
        Family("weldr_response_body_bytes", "counter", "Bytes of response bodies.", unit="bytes"),
        lambda family, name, sums: family.count({"service": name}, sums.response_bytes),
    )


def _add_requests(family: Family, name: str, sums: ServiceSums) -> None:
    for (route, row), count in sums.rows.items():
        method, status_class = divmod(row, STATUS_CLASSES)
        family.count(
            {
                "service": name,
                "route": route,
                "method": METHODS[method] if method < len(METHODS) else OTHER,
                "status": _CLASSES[status_class],
            },
            count,
        )


def _add_backend_latencies(family: Family, name: str, sums: ServiceSums) -> None:
    if sums.backend_latencies:
        family.histogram({"service": name}, sums.backend_latencies)


def _add_errors(family: Family, name: str, sums: ServiceSums) -> None:
    for error, count in sums.errors.items():
        family.count({"service": name, "error": error}, count)


# Of backends.

_BackendAdder = Callable[[Family, tuple[str, str], Tally], None]


def _of_backends() -> Iterator[tuple[Family, _BackendAdder]]:
    yield (
        Family(
            "weldr_backend_requests",
            "counter",
            "Requests that have ended and were with a backend last, by method and class of status.",
        ),
        _add_backend_requests,
    )
    yield (
        Family(
            "weldr_backend_latency_seconds",
            "summary",
            "As weldr_backend_response_duration_seconds, of each backend. A mean and no more, since there are "
            "many.",
            unit="seconds",
        ),
        lambda family, way, tally: family.summary(_way(way), tally.backend_latencies),
    )
    yield (
        Family("weldr_backend_request_body_bytes", "counter", "Bytes of bodies to a backend.", unit="bytes"),
        lambda family, way, tally: family.count(_way(way), tally.request_bytes),
    )
    yield (
        Family("weldr_backend_response_body_bytes", "counter", "Bytes of bodies from a backend.", unit="bytes"),
        lambda family, way, tally: family.count(_way(way), tally.response_bytes),
    )


def _way(way: tuple[str, str]) -> dict[str, str]:
    return {"service": way[0], "backend": way[1]}


def _add_backend_requests(family: Family, way: tuple[str, str], tally: Tally) -> None:
    rows: Counter[tuple[str, int]] = Counter()
    for counted in tally.counted():
        rows[counted.method, counted.status_class] += counted.requests
    for (method, status_class), count in rows.items():
        family.count(_way(way) | {"method": method, "status": _CLASSES[status_class]}, count)
