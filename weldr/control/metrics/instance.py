"""Metrics of the instance as a whole: catalog, watch, etcd, lease, virtual IPs, backends, problems."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from weldr.control.metrics.exposition import Part
from weldr.control.metrics.family import Family, labels
from weldr.control.metrics.lag import LoopLag
from weldr.control.vip.machine import State as VipMachineState
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.etcd.client import EtcdClient
from weldr.etcd.follow import Follower
from weldr.model.catalog import Catalog
from weldr.model.health import BackendKey, Standing
from weldr.version import __version__

_STATES = ("up", "down", "waiting", "draining")


@dataclass(frozen=True, slots=True)
class InstanceParts:
    """What there is to look at."""

    name: str
    client: EtcdClient
    follower: Follower
    virtual_ips: VirtualIps
    lag: LoopLag
    catalog: Callable[[], Catalog | None]
    catalog_at_s: Callable[[], float]
    """When the catalog was replaced last, by the wall clock; 0 before the first."""
    applied_revision: Callable[[], int]
    standings: Callable[[], Mapping[BackendKey, Standing]]
    is_ready: Callable[[], bool]
    lease_left_s: Callable[[], float]
    """Of the instance's lease; 0 while there is none."""
    problems_of_parts: Callable[[], int]


def metrics_of_instance(parts: InstanceParts) -> Iterator[Part]:
    """All of them."""
    yield _info("weldr_build", "This version of weldr.", {"version": __version__})
    yield _info("weldr_instance", "This instance's name.", {"name": parts.name})
    yield _gauge("weldr_ready", "Whether this instance should get traffic.", parts.is_ready())
    yield _gauge(
        "weldr_manager_event_loop_lag_seconds",
        "How late the manager's event loop was at most in the last quarter of a minute.",
        parts.lag.recent_s,
        "seconds",
    )
    yield from _of_catalog(parts)
    yield from _of_watch(parts.follower)
    yield from _of_etcd(parts)
    yield from _of_virtual_ips(parts.virtual_ips)
    yield from _of_backends(parts)


def _gauge(name: str, text: str, value: float, unit: str = "") -> Metric:
    metric = Metric(name, text, "gauge", unit)
    metric.add_sample(name, {}, value)
    return metric


def _counter(name: str, text: str, value: float) -> Metric:
    metric = Metric(name, text, "counter")
    metric.add_sample(name + "_total", {}, value)
    return metric


def _info(name: str, text: str, labels: dict[str, str]) -> Metric:
    metric = Metric(name, text, "info")
    metric.add_sample(name + "_info", labels, 1)
    return metric


def _of_catalog(parts: InstanceParts) -> Iterator[Metric]:
    catalog = parts.catalog()
    yield _gauge(
        "weldr_catalog_revision", "etcd's revision of the catalog.", catalog.revision if catalog else 0
    )
    yield _gauge(
        "weldr_catalog_configuration_revision",
        "The last revision that changed configuration in the catalog: what instances write of themselves does "
        "not count.",
        catalog.known_change if catalog else 0,
    )
    yield _gauge(
        "weldr_catalog_applied_revision",
        "The revision up to which every worker serves the configuration.",
        parts.applied_revision(),
    )
    if parts.catalog_at_s():
        text = "When the catalog was changed last."
        yield _gauge("weldr_catalog_timestamp_seconds", text, parts.catalog_at_s(), "seconds")
    problems = Metric(
        "weldr_problems", "Keys that cannot be understood, and parts that cannot do their work.", "gauge"
    )
    problems.add_sample(problems.name, {"source": "keys"}, len(catalog.problems) if catalog else 0)
    problems.add_sample(problems.name, {"source": "parts"}, parts.problems_of_parts())
    yield problems
    if catalog is not None:
        yield _gauge("weldr_services", "Services in the catalog.", len(catalog.traffic.services))
        yield _gauge("weldr_routes", "Routes in the catalog.", len(catalog.traffic.routes))


def _of_watch(follower: Follower) -> Iterator[Metric]:
    yield _gauge("weldr_watch_connected", "Whether the watch on etcd is alive.", follower.connected)
    yield _gauge(
        "weldr_watch_lag_seconds",
        "For how long something that this instance wrote is missing in the watch.",
        follower.lag_s,
        "seconds",
    )
    if follower.last_contact_s is not None:
        yield _gauge(
            "weldr_watch_silence_seconds",
            "Since when the watch has given no sign of life.",
            max(0.0, time.monotonic() - follower.last_contact_s),
            "seconds",
        )
    yield _counter("weldr_watch_snapshots", "How often all keys were read.", follower.snapshots)
    yield _counter("weldr_watch_reconnections", "How often the watch has ended.", follower.reconnections)
    yield _counter("weldr_watch_audits", "Comparisons of the catalog with etcd.", follower.audits)
    yield _counter("weldr_watch_audit_failures", "Those that found a difference.", follower.audit_failures)


def _of_etcd(parts: InstanceParts) -> Iterator[Part]:
    client = parts.client
    yield _gauge(
        "weldr_etcd_connected",
        "Whether there is a member that answers.",
        client.connection.endpoint is not None,
    )
    requests = Family("weldr_etcd_requests", "counter", "Requests to etcd, each try, by their outcome.")
    for (operation, outcome), count in client.calls.outcomes.items():
        requests.count(labels(operation=operation, outcome=outcome), count)
    yield requests
    durations = Family(
        "weldr_etcd_request_duration_seconds",
        "histogram",
        "How long tries of requests to etcd took.",
        unit="seconds",
    )
    for operation, counts in client.calls.latencies.items():
        durations.histogram(labels(operation=operation), counts)
    yield durations
    left = Metric(
        "weldr_lease_remaining_seconds",
        "Until the instance's lease runs out unless renewed.",
        "gauge",
        "seconds",
    )
    left.add_sample(left.name, {"lease": "instance"}, parts.lease_left_s())
    yield left


def _of_virtual_ips(virtual_ips: VirtualIps) -> Iterator[Metric]:
    states = Metric("weldr_vip_state", "1 for the state that the virtual IP is in here, 0 for others.", "gauge")
    held = Metric("weldr_vip_held", "Whether this instance has the virtual IP.", "gauge")
    left = Metric(
        "weldr_vip_hold_remaining_seconds",
        "Until the virtual IP goes unless etcd or the peers confirm it.",
        "gauge",
        "seconds",
    )
    transitions = Metric("weldr_vip_transitions", "How often this instance got or lost it.", "counter")
    for name, (state, left_s) in virtual_ips.holds().items():
        for each in VipMachineState:
            states.add_sample(states.name, {"vip": name, "state": each.value}, each is state)
        held.add_sample(held.name, {"vip": name}, left_s is not None)
        left.add_sample(left.name, {"vip": name}, left_s or 0.0)
        for word, count in virtual_ips.transitions(name).items():
            transitions.add_sample(transitions.name + "_total", {"vip": name, "to": word}, count)
    yield from (states, held, left, transitions)


def _of_backends(parts: InstanceParts) -> Iterator[Part]:
    catalog, standings = parts.catalog(), parts.standings()
    services = list(catalog.traffic.services.items()) if catalog else []
    counts = Family("weldr_backends", "gauge", "Backends in the catalog by what this instance's checks say.")
    backend_up = Family("weldr_backend_up", "gauge", "Whether a backend is up and not draining.")
    for name, service in services:
        by_state = Counter(dict.fromkeys(_STATES, 0))
        for backend_id, backend in service.backends.items():
            standing = standings.get((name, backend_id, backend.host, backend.port), Standing.UP)
            state = "draining" if backend.draining else standing.value
            by_state[state] += 1
            backend_up.add(labels(service=name, backend=backend_id), state == "up")
            yield None
        for state, count in by_state.items():
            counts.add(labels(service=name, state=state), count)
    yield from (counts, backend_up)
