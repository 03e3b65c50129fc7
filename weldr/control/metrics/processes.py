"""Metrics of the manager's process and the workers', as the kernel tells them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector

from weldr.control.worker import SlotState, WorkerSlot

_MANAGER = "process_"
_WORKER = "weldr_worker_"


def metrics_of_processes(slots: Iterable[WorkerSlot]) -> Iterator[Metric]:
    """The usual ones for the manager, and the same ones with other names for each worker."""
    yield from _of_process(os.getpid())
    families: dict[str, Metric] = {}
    for slot in slots:
        if slot.pid is None:
            continue
        for found in _of_process(slot.pid):
            name = _WORKER + found.name.removeprefix(_MANAGER)
            family = families.setdefault(name, Metric(name, found.documentation, found.type, found.unit))
            for sample in found.samples:
                family.add_sample(
                    _WORKER + sample.name.removeprefix(_MANAGER), {"worker": slot.name}, sample.value
                )
    yield from families.values()


def _of_process(pid: int) -> Iterable[Metric]:
    try:
        return ProcessCollector(pid=lambda: pid, registry=None).collect()
    except (ValueError, UnboundLocalError):
        # The library takes it that the kernel has a limit, and that a process is still there.
        return ()


def metrics_of_workers(slots: Iterable[WorkerSlot]) -> Iterator[Metric]:
    """What the workers tell of themselves, and what their slots know."""
    slots = list(slots)
    yield from _of_slots(slots)
    yield from _of_beats(slots)


def _gauge(name: str, text: str, unit: str = "") -> Metric:
    return Metric(name, text, "gauge", unit)


def _of_slots(slots: Iterable[WorkerSlot]) -> Iterator[Metric]:
    serving = _gauge("weldr_worker_serving", "Whether the worker has a catalog in force and takes requests.")
    starts = Metric("weldr_worker_starts", "How often a process was started for this worker.", "counter")
    revision = _gauge("weldr_worker_applied_revision", "The revision of configuration that it serves.")
    since = _gauge(
        "weldr_worker_applied_timestamp_seconds", "When it began to serve that revision.", unit="seconds"
    )
    for slot in slots:
        labels = {"worker": slot.name}
        serving.add_sample(serving.name, labels, slot.state is SlotState.SERVING)
        starts.add_sample(starts.name + "_total", labels, slot.starts)
        revision.add_sample(revision.name, labels, slot.applied_revision)
        if slot.applied_at_s:
            since.add_sample(since.name, labels, slot.applied_at_s)
    yield from (serving, starts, revision, since)


def _of_beats(slots: Iterable[WorkerSlot]) -> Iterator[Metric]:
    accepted = Metric("weldr_worker_connections", "Connections of clients that were accepted.", "counter")
    faults = Metric("weldr_worker_faults", "Errors in the worker that nobody expected.", "counter")
    in_flight = _gauge("weldr_worker_requests_in_flight", "Requests under way, tunnels among them.")
    clients = _gauge("weldr_worker_client_connections", "Connections of clients, by what goes on on them.")
    backends = _gauge("weldr_worker_backend_connections", "Connections to backends, in use and kept idle.")
    lag = _gauge(
        "weldr_worker_event_loop_lag_seconds",
        "How late the worker's event loop was at most, in the second before its last sign of life.",
        unit="seconds",
    )
    exported = Metric("weldr_worker_spans_exported", "Spans that a collector has taken.", "counter")
    lost = Metric("weldr_worker_spans_lost", "Spans that were too many, or that nobody took.", "counter")
    for slot in slots:
        beat = slot.beat
        if beat is None:
            continue
        labels = {"worker": slot.name}
        accepted.add_sample(accepted.name + "_total", labels, beat.connections)
        faults.add_sample(faults.name + "_total", labels, beat.faults)
        in_flight.add_sample(in_flight.name, labels, beat.in_flight)
        states = {
            "idle": max(0, beat.clients - beat.in_flight),
            "active": max(0, beat.in_flight - beat.tunnels),
            "tunnel": beat.tunnels,
        }
        for state, count in states.items():
            clients.add_sample(clients.name, labels | {"state": state}, count)
        for state, count in {"used": beat.backends_used, "idle": beat.backends_kept}.items():
            backends.add_sample(backends.name, labels | {"state": state}, count)
        lag.add_sample(lag.name, labels, beat.lag_s)
        exported.add_sample(exported.name + "_total", labels, beat.spans_exported)
        lost.add_sample(lost.name + "_total", labels, beat.spans_lost)
    yield from (accepted, faults, in_flight, clients, backends, lag, exported, lost)
