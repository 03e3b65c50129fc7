"""The backends of all services as this worker uses them, and the table by which requests reach them.

The table is replaced whole at each update and never edited. What lives longer than a table is a backend's
pool: it belongs to the service, id and address of the backend, and so an update that leaves a backend as it was
leaves its connections and requests alone. A pool whose backend is draining or gone takes no new request, and is
forgotten when its last one has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from weldr.model.frames import Spared, Sparing
from weldr.model.health import Standing
from weldr.model.traffic import ServiceTraffic, Traffic, TrafficDelta, apply
from weldr.model.values import Backend, Limits, Service, Settings, Timeouts
from weldr.proxy.balance import Balancer, balancer
from weldr.proxy.forwarding import ForwardingPolicy
from weldr.proxy.health import Member, Rotation, State
from weldr.proxy.pending import Pending
from weldr.proxy.pool import BackendPool, PoolKey
from weldr.proxy.routing.table import RouteTable

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """A service, ready for use."""

    name: str
    balancer: Balancer[BackendPool]
    members: Sequence[BackendPool]
    """Those in rotation."""
    has_backends: bool
    """Whether there are any, in rotation or not."""
    why_none: str
    """Why none of them is in rotation, if that is so."""
    pending: Pending
    max_pending: int
    connect_s: float
    response_s: float
    read_s: float
    tunnel_idle_s: float


@dataclass(frozen=True, slots=True)
class Table:
    """What requests are routed by."""

    routes: RouteTable = field(default_factory=RouteTable)
    services: Mapping[str, ServiceTable] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    forwarding: ForwardingPolicy = field(default_factory=lambda: ForwardingPolicy(Settings()))


class Fleet:
    """Owner of the table and of every pool."""

    def __init__(self, on_idle: Callable[[], None], on_sparing: Callable[[], None] = lambda: None) -> None:
        """`on_idle` is called when a backend that gets no new requests has no more in flight, `on_sparing` when
        `sparing` is another.
        """
        self.table = Table()
        self._traffic = Traffic()
        self._on_idle = on_idle
        self._pools: dict[PoolKey, BackendPool] = {}
        self._leaving: dict[PoolKey, BackendPool] = {}
        self._pending: dict[str, Pending] = {}
        self._on_sparing = on_sparing
        self._standings: dict[PoolKey, Standing] = {}
        self._rotations: dict[str, Rotation] = {}
        self._spared: dict[PoolKey, BackendPool] = {}
        """All that are out or on trial."""
        self._unsettled: set[str] = set()
        """Services whose table is behind the health of their backends."""

    @property
    def traffic(self) -> Traffic:
        """What the table was made from."""
        return self._traffic

    def apply(self, delta: TrafficDelta) -> None:
        """Bring the difference into force, at one instant."""
        before, after = self._traffic, apply(self._traffic, delta)
        settings = after.settings
        new_settings = delta.settings is not None and before.settings != settings
        if new_settings:
            touched = set(after.services) | set(delta.services_removed)
        else:
            touched = {*delta.services, *delta.services_removed}
        services = dict(self.table.services)
        for name in touched:
            service = after.services.get(name)
            self._update_pools(name, before.services.get(name), service)
            if service is None:
                services.pop(name, None)
                if (rotation := self._rotations.pop(name, None)) is not None and rotation.panicking:
                    self._on_sparing()
            else:
                services[name] = self._service_table(name, service, settings)
        self._traffic = after
        forwarding = ForwardingPolicy(settings) if new_settings else self.table.forwarding
        routes = self.table.routes
        if delta.routes or delta.routes_removed:
            routes = routes.changed(delta.routes_removed, delta.routes)
        self.table = Table(routes, services, settings.timeouts, settings.limits, forwarding)
        for name in touched:
            self._wake(name)

    # Health.

    def apply_standings(self, standings: Sequence[tuple[PoolKey, Standing]]) -> None:
        """Bring the manager's word on these backends into force, whether they are in the table or not yet."""
        touched = set()
        for key, standing in standings:
            if standing is Standing.UP:
                self._standings.pop(key, None)
            else:
                self._standings[key] = standing
            pool = self._pools.get(key)
            if pool is not None and pool.health.standing is not standing:
                pool.health.standing = standing
                touched.add(key[0])
                if standing is Standing.UP:
                    pool.health.passed_check()
        self._rebuild(touched)

    def tick(self, now_s: float) -> None:
        """Let time pass for the backends that are spared, and bring the tables up to date with all health."""
        for pool in list(self._spared.values()):
            if pool.rotation is not None:
                pool.rotation.tick(pool, now_s)
        names, self._unsettled = self._unsettled, set()
        self._rebuild(names)

    def sparing(self, now_s: float) -> Sparing:
        """Who is spared now, for the manager."""
        return Sparing(
            [
                Spared(pool.key, pool.health.reason, max(0.0, pool.health.until_s - now_s), pool.health.asked)
                for pool in self._spared.values()
            ],
            [name for name, rotation in self._rotations.items() if rotation.panicking],
        )

    def silent(self) -> list[PoolKey]:
        """Who has been sent requests, and answered none, since the last call. No harm done to those whose
        answers take long: it is for the manager's checks to judge.
        """
        pools = self._pools.values()
        return [pool.key for pool in pools if pool.health.is_silent(pool.in_flight)]

    def _health_changed(self, member: Member) -> None:
        # Admitting none has taken it out already: so the table may wait, and many changes cost one rebuilding.
        assert isinstance(member, BackendPool)
        self._unsettled.add(member.key[0])
        self._note_spared(member)

    def _note_spared(self, pool: BackendPool) -> None:
        if pool.rotation is not None and pool.health.state is not State.IN:
            self._spared[pool.key] = pool
        elif self._spared.pop(pool.key, None) is None:
            return
        self._on_sparing()

    def _rebuild(self, names: set[str]) -> None:
        """The tables of these services, since the health of their backends has changed."""
        names = {name for name in names if name in self._traffic.services}
        if not names:
            return
        table = self.table
        services = dict(table.services)
        for name in names:
            services[name] = self._service_table(name, self._traffic.services[name], self._traffic.settings)
        self.table = replace(table, services=services)
        for name in names:
            self._wake(name)

    def _wake(self, service: str) -> None:
        """Requests that wait for this service try again, by the table that is in force now."""
        pending = self._pending.get(service)
        if pending is None:
            return
        pending.wake_all()
        if not pending.waiting and service not in self.table.services:
            del self._pending[service]

    def _update_pools(self, name: str, before: ServiceTraffic | None, after: ServiceTraffic | None) -> None:
        old = before.backends if before else {}
        new = after.backends if after else {}
        for backend_id, backend in new.items():
            if old.get(backend_id) is not backend:
                self._enter(name, backend_id, backend)
        for backend_id, backend in old.items():
            held = new.get(backend_id)
            if held is None or (held.host, held.port) != (backend.host, backend.port):
                self._leave(_key(name, backend_id, backend))

    def _enter(self, service: str, backend_id: str, backend: Backend) -> None:
        key = _key(service, backend_id, backend)
        pool = self._pools.get(key) or self._leaving.pop(key, None)
        if pool is None:
            pool = BackendPool(key, self._pool_idle)
        self._pools[key] = pool
        pool.health.standing = self._standings.get(key, Standing.UP)
        if backend.draining:
            pool.stop()
            pool.rotation = None
        else:
            pool.start()
            pool.rotation = self._rotations.setdefault(service, Rotation(self._health_changed))
        self._note_spared(pool)

    def _leave(self, key: PoolKey) -> None:
        pool = self._pools.pop(key)
        pool.rotation = None
        self._note_spared(pool)
        pool.stop()
        if pool.in_flight:
            self._leaving[key] = pool

    def _service_table(self, name: str, service: ServiceTraffic, settings: Settings) -> ServiceTable:
        timeouts, limits = settings.timeouts, settings.limits
        own_timeouts, own_limits = service.policy.timeouts, service.policy.limits
        pending = self._pending.setdefault(name, Pending())
        candidates = []
        for backend_id, backend in service.backends.items():
            pool = self._pools[_key(name, backend_id, backend)]
            pool.pending = pending
            pool.limit(_first(own_limits.backend_connections, limits.backend_connections))
            pool.max_kept = _first(own_limits.backend_idle_connections, limits.backend_idle_connections)
            if not backend.draining:
                candidates.append((pool, backend.weight))
        rotation = self._rotation(name, [pool for pool, _ in candidates], service.policy)
        members = [(pool, weight) for pool, weight in candidates if rotation.uses(pool)]
        return ServiceTable(
            name=name,
            balancer=balancer(members),
            members=[pool for pool, _ in members],
            has_backends=bool(service.backends),
            why_none=_why_none(candidates, rotation),
            pending=pending,
            max_pending=_first(own_limits.pending_requests, limits.pending_requests),
            connect_s=_first(own_timeouts.connect_s, timeouts.connect_s),
            response_s=_first(own_timeouts.response_s, timeouts.response_s),
            read_s=_first(own_timeouts.read_s, timeouts.read_s),
            tunnel_idle_s=_first(own_timeouts.tunnel_idle_s, timeouts.tunnel_idle_s),
        )

    def _rotation(self, name: str, candidates: list[BackendPool], policy: Service) -> Rotation:
        rotation = self._rotations.setdefault(name, Rotation(self._health_changed))
        panicked = rotation.panicking
        rotation.set(candidates, policy.ejection, policy.panic_below)
        if rotation.panicking != panicked:
            self._on_sparing()
        return rotation

    def trim_kept(self, most: int) -> None:
        """Close kept connections beyond so many, where there are the most of them."""
        excess = sum(pool.kept for pool in self._pools.values()) - most
        if excess <= 0:
            return
        for pool in sorted(self._pools.values(), key=lambda pool: pool.kept, reverse=True):
            if excess <= 0:
                return
            excess -= pool.trim(excess)

    def _pool_idle(self, pool: BackendPool) -> None:
        self._leaving.pop(pool.key, None)
        self._on_idle()

    def leaving(self) -> list[tuple[str, str, int]]:
        """Requests in flight by (service, id), for every backend that gets no new ones and is not idle yet."""
        counts: Counter[tuple[str, str]] = Counter()
        for pools in (self._leaving, self._pools):
            for pool in pools.values():
                if pool.stopped and pool.in_flight:
                    counts[pool.key[:2]] += pool.in_flight
        return [(service, backend_id, count) for (service, backend_id), count in counts.items()]


def _why_none(candidates: Sequence[object], rotation: Rotation) -> str:
    if not candidates:
        return "is draining"
    return "is unhealthy" if rotation.has_members else "has yet to pass a first check"


def _first(own: Number | None, default: Number) -> Number:
    return default if own is None else own


def _key(service: str, backend_id: str, backend: Backend) -> PoolKey:
    return service, backend_id, backend.host, backend.port
