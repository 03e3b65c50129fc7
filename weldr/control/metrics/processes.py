"""Metrics of the manager's process and the workers': what the kernel tells, and what they tell of themselves.

The library's collector reads the same, but tells less of a process whose descriptors it may not count: only a
worker may count a worker's, since it is another user's.
"""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric

from weldr.control.metrics.exposition import Part
from weldr.control.metrics.family import Family, labels
from weldr.control.worker import SlotState, WorkerSlot

_FACTS = {
    "cpu_seconds_total": "Total user and system CPU time spent in seconds.",
    "virtual_memory_bytes": "Virtual memory size in bytes.",
    "resident_memory_bytes": "Resident memory size in bytes.",
    "start_time_seconds": "Start time of the process since unix epoch in seconds.",
    "open_fds": "Number of open file descriptors.",
    "max_fds": "Maximum number of open file descriptors.",
}
_MANAGER = "process_"
_WORKER = "weldr_worker_"

Facts = dict[str, float]


def metrics_of_processes(slots: Iterable[WorkerSlot]) -> Iterator[Part]:
    """The usual ones for the manager, and the same ones with other names for each worker."""
    manager = _facts_of(os.getpid())
    manager["open_fds"] = len(os.listdir("/proc/self/fd"))
    yield from _families(_MANAGER, {"": manager})
    workers: dict[str, Facts] = {}
    for slot in slots:
        if slot.pid is None:
            continue
        facts = workers[labels(worker=slot.name)] = _facts_of(slot.pid)
        if slot.beat is not None and slot.beat.descriptors:
            facts["open_fds"] = slot.beat.descriptors
    yield from _families(_WORKER, workers)


def _families(prefix: str, processes: dict[str, Facts]) -> Iterator[Family]:
    for name, text in _FACTS.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        family = Family(prefix + name.removesuffix("_total"), kind, text)
        for whose, facts in processes.items():
            if name in facts:
                family.add(whose, facts[name], "_total" if kind == "counter" else "")
        yield family


def _facts_of(pid: int) -> Facts:
    """Without those that the kernel does not tell, or of a process that has just ended."""
    process = Path(f"/proc/{pid}")
    try:
        fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
        limits = (process / "limits").read_text().splitlines()
    except OSError:
        return {}
    ticks_in_s = os.sysconf("SC_CLK_TCK")
    # A process that has just ended has none.
    most = next((line.split()[3] for line in limits if line.startswith("Max open files")), "unlimited")
    facts = {
        "cpu_seconds_total": (int(fields[11]) + int(fields[12])) / ticks_in_s,
        "virtual_memory_bytes": int(fields[20]),
        "resident_memory_bytes": int(fields[21]) * resource.getpagesize(),
        "start_time_seconds": _boot_time_s() + int(fields[19]) / ticks_in_s,
    }
    return facts if most == "unlimited" else {**facts, "max_fds": int(most)}


@functools.cache
def _boot_time_s() -> int:
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))


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
