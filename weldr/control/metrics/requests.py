"""Metrics of requests: by service and route, and by backend.

Labels are names from the catalog, classes of methods and statuses, and types of errors: nothing that a client
can make up. All metrics of a thing are written in one go, so that its labels are written once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from weldr.control.metrics.exposition import Part
from weldr.control.metrics.family import Family, labels
from weldr.control.request_sums import ServiceSums
from weldr.control.statistics import Statistics
from weldr.model.latency import MOST_BUCKETS
from weldr.model.tally import METHODS, OTHER, Tally

_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")

_ROWS = [labels(method=method, status=status) for method in (*METHODS, OTHER) for status in _CLASSES]
"""The labels of a method and status together."""


def metrics_of_requests(statistics: Statistics) -> Iterator[Part]:
    """All of them. What is counted meanwhile is told of some services and backends and not yet of others."""
    yield from _of_services(statistics.sums.services)
    yield from _of_backends(statistics.tallies)
    dropped = Family("weldr_access_log_dropped_lines", "counter", "Lines that the access log could not take.")
    dropped.add("", statistics.access_lines_dropped, "_total")
    yield dropped


def _of_services(services: Mapping[str, ServiceSums]) -> Iterator[Part]:
    requests = Family(
        "weldr_requests",
        "counter",
        "Requests that have ended, by service (empty: none was found), route (empty: none), method, and "
        "class of status (none: the client had left before there was an answer).",
    )
    durations = Family(
        "weldr_request_duration_seconds",
        "histogram",
        "From a request's head to the end of its response.",
        unit="seconds",
    )
    backend_durations = Family(
        "weldr_backend_response_duration_seconds",
        "histogram",
        "From the last sending of a request to a backend to the head of its response; of short responses "
        "on kept connections, the whole request.",
        unit="seconds",
    )
    errors = Family(
        "weldr_errors",
        "counter",
        "Requests that weldr answered itself for an error, or whose response it cut off, by the type of "
        "RFC 9209.",
    )
    received = Family("weldr_request_body_bytes", "counter", "Bytes of request bodies.", unit="bytes")
    sent = Family("weldr_response_body_bytes", "counter", "Bytes of response bodies.", unit="bytes")
    # Whoever counts goes on meanwhile: so lists.
    for name, sums in list(services.items()):
        service = labels(service=name)
        for (route, row), count in list(sums.rows.items()):
            requests.count(f"{service},{labels(route=route)},{_ROWS[row]}", count)
            yield None
        durations.histogram(service, sums.latencies)
        if sums.backend_latencies:
            backend_durations.histogram(service, sums.backend_latencies)
        for error, count in sums.errors.items():
            errors.count(f"{service},{labels(error=error)}", count)
        received.count(service, sums.request_bytes)
        sent.count(service, sums.response_bytes)
        yield None
    yield from (requests, durations, backend_durations, errors, received, sent)


def _of_backends(tallies: Mapping[tuple[str, str], Tally]) -> Iterator[Part]:
    requests = Family(
        "weldr_backend_requests",
        "counter",
        "Requests that have ended and were with a backend last, by method and class of status.",
    )
    latencies = Family(
        "weldr_backend_latency_seconds",
        "summary",
        "As weldr_backend_response_duration_seconds, of each backend. A mean and no more, since there are "
        "many.",
        unit="seconds",
    )
    sent = Family("weldr_backend_request_body_bytes", "counter", "Bytes of bodies to a backend.", unit="bytes")
    received = Family(
        "weldr_backend_response_body_bytes", "counter", "Bytes of bodies from a backend.", unit="bytes"
    )
    for (name, backend), tally in list(tallies.items()):
        if not backend:
            continue
        way = labels(service=name, backend=backend)
        rows: dict[int, int] = {}
        for kind, count in tally.counts.items():
            row = kind // MOST_BUCKETS
            rows[row] = rows.get(row, 0) + count
        for row, count in rows.items():
            requests.count(f"{way},{_ROWS[row]}", count)
        latencies.summary(way, tally.backend_latencies)
        sent.count(way, tally.request_bytes)
        received.count(way, tally.response_bytes)
        yield None
    yield from (requests, latencies, sent, received)
