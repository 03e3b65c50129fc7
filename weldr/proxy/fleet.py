"""The backends of all services as this worker uses them, and the table by which requests reach them.

The table is replaced whole at each update and never edited. What lives longer than a table is a backend's
pool: it belongs to the service, id and address of the backend, and so an update that leaves a backend as it was
leaves its connections and requests alone. A pool whose backend is draining or gone takes no new request, and is
forgotten when its last one has ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from weldr.model.frames import Spared, Sparing
from weldr.model.health import Standing
from weldr.model.traffic import ServiceDelta, ServiceTraffic, Traffic, TrafficDelta, apply
from weldr.model.values import Backend, Limits, Service, Settings, Timeouts
from weldr.proxy.balancing.membership import Membership
from weldr.proxy.forwarding import ForwardingPolicy
from weldr.proxy.guard import Guard
from weldr.proxy.health import Member, Rotation, State
from weldr.proxy.pool import BackendPool, PoolKey
from weldr.proxy.routing.table import RouteTable
from weldr.proxy.service_table import ServiceTable

Number = TypeVar("Number", int, float)

_NO_CHANGE = ServiceDelta()


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

    def __init__(
        self,
        on_idle: Callable[[], None],
        on_sparing: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = time.monotonic,
        zone: str = "",
        on_out: Callable[[BackendPool], None] = lambda _: None,
        on_behind: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_idle` is called when a backend that gets no new requests has no more in flight, `on_sparing` when
        `sparing` is another, `on_out` when a backend is taken out for its failures or its wish, and `on_behind`
        when `catch_up` is to be called. `zone` is this instance's.
        """
        self.table = Table()
        self._traffic = Traffic()
        self._on_idle = on_idle
        self._now_s = now_s
        self._zone = zone
        self._on_out = on_out
        self._on_behind = on_behind
        self._behind: dict[Membership, None] = {}
        """Those that could not be brought up to date at once."""
        self._loaded = False
        """Whether there was a first update. What it names was in use before, elsewhere."""
        self._pools: dict[PoolKey, BackendPool] = {}
        self._leaving: dict[PoolKey, BackendPool] = {}
        self._guards: dict[str, Guard] = {}
        self._on_sparing = on_sparing
        self._standings: dict[PoolKey, Standing] = {}
        self._memberships: dict[str, Membership] = {}
        self._warming: set[Membership] = set()
        """Those whose backends begin slowly."""
        self._spared: dict[PoolKey, BackendPool] = {}
        """All that are out or on trial."""
        self._unsettled: dict[BackendPool, None] = {}
        """Those whose health has changed since their service was last told."""

    @property
    def traffic(self) -> Traffic:
        """What the table was made from."""
        return self._traffic

    def apply(self, delta: TrafficDelta) -> None:
        """Bring the difference into force, at one instant."""
        before, after = self._traffic, apply(self._traffic, delta)
        self._traffic = after
        settings = after.settings
        new_settings = delta.settings is not None and before.settings != settings
        new_for_all = new_settings or before.sticky_key != after.sticky_key
        changes = dict(delta.services)
        if new_for_all:
            for name in after.services:
                changes.setdefault(name, _NO_CHANGE)
        services = dict(self.table.services)
        for name in delta.services_removed:
            self._remove_service(name, before.services[name])
            services.pop(name, None)
        for name, change in changes.items():
            service = after.services[name]
            held = before.services.get(name)
            table = None
            if new_for_all or held is None or held.policy is not service.policy:
                table = services[name] = self._service_table(name, service.policy)
            self._update_pools(name, held, service, change, all_limits=table is not None)
        if not self._loaded:
            # Nobody waits yet, and whoever comes is to be sent where another worker would send it.
            for membership in self._memberships.values():
                membership.catch_up(len(self._pools))
            self._behind.clear()
        self._loaded = True
        forwarding = ForwardingPolicy(settings) if new_settings else self.table.forwarding
        routes = self.table.routes
        if delta.routes or delta.routes_removed:
            routes = routes.changed(delta.routes_removed, delta.routes)
        self.table = Table(routes, services, settings.timeouts, settings.limits, forwarding)
        for name in (*changes, *delta.services_removed):
            self._wake(name)

    # Health.

    def apply_standings(self, standings: Sequence[tuple[PoolKey, Standing]]) -> None:
        """Bring the manager's word on these backends into force, whether they are in the table or not yet."""
        touched = []
        for key, standing in standings:
            if standing is Standing.UP:
                self._standings.pop(key, None)
            else:
                self._standings[key] = standing
            pool = self._pools.get(key)
            if pool is not None and pool.health.standing is not standing:
                pool.health.standing = standing
                touched.append(pool)
                if standing is Standing.UP:
                    pool.health.passed_check()
        self._judge(touched)

    def tick(self, now_s: float) -> None:
        """Let time pass for all services and for the backends that are spared or begin slowly, and bring the
        services up to date with all health.
        """
        for name, guard in list(self._guards.items()):
            guard.tick(now_s)
            if guard.gradient is not None and name in self.table.services:
                self.table.services[name].wake()
        for pool in list(self._spared.values()):
            if pool.rotation is not None:
                pool.rotation.tick(pool, now_s)
                pool.lower_admitted()
        unsettled, self._unsettled = self._unsettled, {}
        self._judge(unsettled)
        for membership in self._warming:
            membership.tick(now_s)

    def sparing(self, now_s: float) -> Sparing:
        """Who is spared now, for the manager."""
        return Sparing(
            [
                Spared(pool.key, pool.health.reason, max(0.0, pool.health.until_s - now_s), pool.health.asked)
                for pool in self._spared.values()
            ],
            [name for name, membership in self._memberships.items() if membership.rotation.panicking],
            [name for name in self.table.services if self._guards[name].circuit_is_open],
        )

    def circuit_changed(self) -> None:
        """The circuit breaker of a service has opened or closed."""
        self._on_sparing()

    def silent(self) -> list[PoolKey]:
        """Who has been sent requests, and answered none, since the last call. No harm done to those whose
        answers take long: it is for the manager's checks to judge.
        """
        pools = self._pools.values()
        return [pool.key for pool in pools if pool.health.is_silent(pool.in_flight)]

    def loads(self) -> list[tuple[str, str, int]]:
        """Requests in flight by service and backend, where there are any."""
        counts: Counter[tuple[str, str]] = Counter()
        for pools in (self._leaving, self._pools):
            for pool in pools.values():
                if pool.in_flight:
                    counts[pool.way] += pool.in_flight
        return [(*way, count) for way, count in counts.items()]

    def _health_changed(self, member: Member) -> None:
        # Admitting none has taken it out already: so the balancer may wait, and is not changed amid a choice.
        assert isinstance(member, BackendPool)
        if member.health.state is State.OUT:
            self._on_out(member)
        self._unsettled[member] = None
        self._note_spared(member)

    def _note_spared(self, pool: BackendPool) -> None:
        if pool.rotation is not None and pool.health.state is not State.IN:
            self._spared[pool.key] = pool
        elif self._spared.pop(pool.key, None) is None:
            return
        self._on_sparing()

    def _judge(self, pools: Iterable[BackendPool]) -> None:
        """The health of these backends has changed: tell their services."""
        now_s = self._now_s()
        touched = set()
        for pool in pools:
            if self._pools.get(pool.key) is pool:
                touched.add(pool.key[0])
                self._memberships[pool.key[0]].judge(pool, now_s)
        for name in touched:
            self._settle(self._memberships[name])
            self._wake(name)

    def _settle(self, membership: Membership) -> None:
        if membership.settle():
            self._on_sparing()
        if membership.is_behind:
            if not self._behind:
                self._on_behind()
            self._behind[membership] = None

    def catch_up(self) -> bool:
        """Do a bit of what takes long: as much as requests can wait for. Whether there is more."""
        if self._behind:
            membership = next(iter(self._behind))
            membership.catch_up()
            if not membership.is_behind:
                del self._behind[membership]
        return bool(self._behind)

    def _wake(self, service: str) -> None:
        """Requests that wait for this service try again, by the table that is in force now."""
        guard = self._guards.get(service)
        if guard is None:
            return
        guard.pending.wake_all()
        if not guard.pending.waiting and service not in self.table.services:
            del self._guards[service]

    def _remove_service(self, name: str, service: ServiceTraffic) -> None:
        for backend_id, backend in service.backends.items():
            self._leave(_key(name, backend_id, backend))
        membership = self._memberships.pop(name)
        self._warming.discard(membership)
        self._behind.pop(membership, None)
        if membership.rotation.panicking or self._guards[name].circuit_is_open:
            self._on_sparing()

    def _update_pools(
        self,
        name: str,
        before: ServiceTraffic | None,
        after: ServiceTraffic,
        change: ServiceDelta,
        *,
        all_limits: bool,
    ) -> None:
        old = before.backends if before else {}
        for backend_id in (*change.removed, *change.put):
            held, new = old.get(backend_id), after.backends.get(backend_id)
            if held is not None and (new is None or (held.host, held.port) != (new.host, new.port)):
                self._leave(_key(name, backend_id, held))
        for backend_id, backend in change.put.items():
            self._enter(name, backend_id, backend)
        for backend_id, backend in (after.backends if all_limits else change.put).items():
            self._limit(self._pools[_key(name, backend_id, backend)], after.policy)
        self._settle(self._memberships[name])

    def _enter(self, service: str, backend_id: str, backend: Backend) -> None:
        key = _key(service, backend_id, backend)
        membership = self._memberships[service]
        pool = self._pools.get(key) or self._leaving.pop(key, None)
        if pool is None:
            pool = BackendPool(key, self._pool_idle)
        self._pools[key] = pool
        pool.pending = self._guards[service].pending
        pool.health.standing = self._standings.get(key, Standing.UP)
        membership.put(pool, backend, self._now_s(), warm=not self._loaded)
        if backend.draining:
            pool.stop()
            pool.rotation = None
        else:
            pool.start()
            pool.rotation = membership.rotation
        self._note_spared(pool)

    def _leave(self, key: PoolKey) -> None:
        pool = self._pools.pop(key)
        self._memberships[key[0]].remove(pool)
        pool.rotation = None
        self._note_spared(pool)
        pool.stop()
        pool.sticky_until_s = 0.0
        if pool.in_flight:
            self._leaving[key] = pool

    def _limit(self, pool: BackendPool, policy: Service) -> None:
        own, limits = policy.limits, self._traffic.settings.limits
        pool.limit(_first(own.backend_connections, limits.backend_connections))
        pool.max_kept = _first(own.backend_idle_connections, limits.backend_idle_connections)

    def _service_table(self, name: str, policy: Service) -> ServiceTable:
        timeouts, limits = self._traffic.settings.timeouts, self._traffic.settings.limits
        own_timeouts, own_limits = policy.timeouts, policy.limits
        membership = self._memberships.get(name)
        if membership is None:
            membership = Membership(name, self._zone, Rotation(self._health_changed))
            self._memberships[name] = membership
        guard = self._guards.setdefault(name, Guard())
        was_open = guard.circuit_is_open
        guard.adopt(policy)
        has_turned = membership.configure(policy, self._traffic.sticky_key)
        if has_turned or guard.circuit_is_open != was_open:
            self._on_sparing()
        (self._warming.add if membership.begins_slowly else self._warming.discard)(membership)
        return ServiceTable(
            name=name,
            membership=membership,
            balancer=membership.balancer,
            chooser=membership.chooser,
            members=membership.members,
            policy=policy,
            retries=policy.retries,
            guard=guard,
            budget=guard.budget,
            supervised=guard.supervises,
            max_pending=_first(own_limits.pending_requests, limits.pending_requests),
            connect_s=_first(own_timeouts.connect_s, timeouts.connect_s),
            response_s=_first(own_timeouts.response_s, timeouts.response_s),
            read_s=_first(own_timeouts.read_s, timeouts.read_s),
            tunnel_idle_s=_first(own_timeouts.tunnel_idle_s, timeouts.tunnel_idle_s),
        )

    def trim_kept(self, most: int) -> None:
        """Close kept connections beyond so many, where there are the most of them."""
        excess = sum(pool.kept for pool in self._pools.values()) - most
        if excess <= 0:
            return
        for pool in sorted(self._pools.values(), key=lambda pool: pool.kept, reverse=True):
            if excess <= 0:
                return
            excess -= pool.trim(excess)

    def connections(self) -> tuple[int, int]:
        """How many requests are with backends, and how many connections to backends are kept."""
        pools = (*self._pools.values(), *self._leaving.values())
        return sum(pool.in_flight for pool in pools), sum(pool.kept for pool in pools)

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


def _first(own: Number | None, default: Number) -> Number:
    return default if own is None else own


def _key(service: str, backend_id: str, backend: Backend) -> PoolKey:
    return service, backend_id, backend.host, backend.port
