"""Metrics of what befell requests beside being answered, and of who is kept from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from weldr.control.metrics.exposition import Part
from weldr.control.metrics.family import Family, labels
from weldr.model.frames import Sparing
from weldr.model.incidents import COUNTS, Incidents

NAMES = {
    "retries": ("retries", "Requests that were given to another backend after a failure."),
    "budget_exhausted": (
        "retry_budget_exhausted",
        "Requests that would have been sent again, or hedged, but for the retry budget.",
    ),
    "repeats": ("repeats", "Requests sent once more since their kept connection had ended."),
    "connect_failures": ("connect_failures", "Connections to a backend that could not be made."),
    "hedges": ("hedges", "Requests that were sent to a second backend, too."),
    "hedges_won": ("hedges_won", "Those of them that the second backend answered first."),
    "ejections": ("ejections", "Backends taken out for their failures, by each worker and each time."),
    "rests": ("rests", "Backends taken out since they asked for that, by each worker and each time."),
    "circuit_openings": ("circuit_openings", "How often the circuit breaker of a worker has opened."),
    "circuit_refused": ("circuit_refused", "Requests that a circuit breaker did not let through."),
    "queued": ("queued", "Requests that had to wait for room."),
    "shed": ("shed", "Requests for which there was no room, nor soon enough."),
    "deadlines_passed": ("deadlines_passed", "Requests that took longer than they may in all."),
    "rate_limited": ("rate_limited", "Requests beyond the rate limit of a route."),
    "mirrored": ("mirrored", "Copies of requests that were sent here."),
    "mirrors_dropped": ("mirrors_dropped", "Copies that were not, since that would have been too much."),
}
"""The metric for each count, without its prefix, and what it says."""


def metrics_of_incidents(incidents: Mapping[str, Incidents], sparings: Iterable[Sparing]) -> Iterator[Part]:
    """What was counted by service, and what the workers spare now."""
    families = [(count, Family(f"weldr_{NAMES[count][0]}", "counter", NAMES[count][1])) for count in COUNTS]
    for each in list(incidents.values()):
        service = labels(service=each.service)
        for count, family in families:
            family.count(service, getattr(each, count))
        yield None
    for _, family in families:
        yield family
    yield from _of_sparings(list(sparings))


def _of_sparings(sparings: list[Sparing]) -> Iterator[Part]:
    ejected: Counter[tuple[str, str]] = Counter()
    for sparing in sparings:
        ejected.update(spared.key[:2] for spared in sparing.spared)
        yield None
    family = Family(
        "weldr_backend_spared_workers", "gauge", "In how many workers a backend is ejected, on trial, or rests."
    )
    for (service, backend), workers in ejected.items():
        family.add(labels(service=service, backend=backend), workers)
        yield None
    yield family
    open_circuits = Counter(name for sparing in sparings for name in sparing.open_circuits)
    family = Family(
        "weldr_open_circuit_workers", "gauge", "In how many workers a circuit breaker is not closed."
    )
    for service, workers in open_circuits.items():
        family.add(labels(service=service), workers)
    yield family
    panicking = Counter(name for sparing in sparings for name in sparing.panicking)
    family = Family(
        "weldr_panicking_workers",
        "gauge",
        "In how many workers all backends are used since too few are healthy.",
    )
    for service, workers in panicking.items():
        family.add(labels(service=service), workers)
    yield family
