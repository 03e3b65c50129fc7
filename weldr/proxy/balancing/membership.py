"""Who is in a service's balancer, and with which weight: by the catalog, by health, by zone, by slow start.

A change of one backend is a matter of that one. Only a new policy, and a panic that begins or ends, look at
all.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from weldr.model.balancing import Balance
from weldr.model.values import Backend, Service
from weldr.proxy.balancing.balancer import Balancer
from weldr.proxy.balancing.chooser import Chooser
from weldr.proxy.balancing.consistent_hash import ConsistentHash
from weldr.proxy.balancing.policies import balancer
from weldr.proxy.balancing.request_key import request_key
from weldr.proxy.balancing.slow_start import SlowStart
from weldr.proxy.balancing.sticky import StickyCookie
from weldr.proxy.balancing.unhurried import Unhurried
from weldr.proxy.balancing.zones import ZonePreference
from weldr.proxy.health import Rotation
from weldr.proxy.pool import BackendPool

_UNITS_OF_WEIGHT_1 = 128
"""Weights are whole numbers for the balancers, so that no sum of them drifts; a share of a weight is, too."""
_AT_ONCE = 20
"""Members that it takes 2 ms to bring up to date."""
_NEEDS_THE_REQUEST = frozenset(("consistent_hash", "peak_ewma"))


class Membership:
    """Of one service."""

    def __init__(self, service: str, own_zone: str, rotation: Rotation) -> None:
        """`own_zone` is this instance's; empty if it has none."""
        self.rotation = rotation
        self.members: list[BackendPool] = []
        """Those that get requests, in no order."""
        self.balancer: Balancer[BackendPool]
        self.chooser: Chooser | None
        """What chooses for a request, if that takes more than the balancer."""
        self._service = service
        self._own_zone = own_zone
        self._places: dict[BackendPool, int] = {}
        """Where in `members` each stands."""
        self._backends: dict[BackendPool, Backend] = {}
        """All that are in the catalog, whether they get requests or not."""
        self._draining = 0
        """How many of them drain."""
        self._slow_start: SlowStart[BackendPool]
        self._sticky: StickyCookie[BackendPool] | None
        self._zones: ZonePreference[BackendPool] | None
        self._own_weight = 0
        """Of all backends of the own zone, ..."""
        self._own_usable_weight = 0
        """... and of those of them that get requests."""
        self._zone_enough = 1.0
        self._unhurried: list[Unhurried[BackendPool]]
        """The balancers that may be behind."""
        self._adopt(Balance(), b"")

    def configure(self, policy: Service, sticky_key: bytes) -> bool:
        """Go by this policy; whether the service panics now and did not, or the other way round.

        Without a `sticky_key` there are no sticky cookies yet.
        """
        self.rotation.configure(policy.ejection, policy.panic_below)
        if self._adopted != (policy.balance, sticky_key):
            self._change(policy.balance, sticky_key)
        return self.settle()

    def _change(self, balance: Balance, sticky_key: bytes) -> None:
        members = list(self.members)
        for pool in members:
            self.balancer.remove(pool)
            pool.latency = None
        begun = self._slow_start
        self._adopt(balance, sticky_key)
        if begun.duration_s == self._slow_start.duration_s:
            self._slow_start = begun
        for pool in members:
            self.balancer.put(pool, self._weight(pool))
        if self._sticky is not None:
            for pool in self._backends:
                self._sticky.put(pool, pool.key[1])

    def _adopt(self, balance: Balance, sticky_key: bytes) -> None:
        self._adopted = balance, sticky_key
        self._unhurried = []
        own = self._balancer(balance)
        self._zones = None
        if self._own_zone and balance.prefer_zone:
            self._zones = ZonePreference(own, self._balancer(balance), self._is_own)
        self.balancer = own if self._zones is None else self._zones
        self._zone_enough = balance.zone_enough
        hashed = balance.policy == "consistent_hash"
        self._slow_start = SlowStart(0.0 if hashed else balance.slow_start_s)
        self._sticky = None
        if balance.sticky is not None and sticky_key:
            self._sticky = StickyCookie(self._service, balance.sticky, sticky_key)
        self.chooser = None
        if self._sticky is not None or balance.policy in _NEEDS_THE_REQUEST:
            key = request_key(balance.hash_by) if hashed else None
            self.chooser = Chooser(self.balancer, key, self._sticky, self._places)

    def _balancer(self, balance: Balance) -> Balancer[BackendPool]:
        found: Balancer[BackendPool] = balancer(balance, _hashed_name)
        if not isinstance(found, ConsistentHash):
            return found
        unhurried = Unhurried(found)
        self._unhurried.append(unhurried)
        return unhurried

    @property
    def is_behind(self) -> bool:
        """Whether `catch_up` has anything to do."""
        return any(each.is_behind for each in self._unhurried)

    def catch_up(self, most: int = _AT_ONCE) -> None:
        """Bring up to date what takes long, for so many members."""
        for each in self._unhurried:
            each.catch_up(most)

    @property
    def begins_slowly(self) -> bool:
        """Whether `tick` has to be called."""
        return self._slow_start.duration_s > 0

    @property
    def has_backends(self) -> bool:
        """Whether there are any, in rotation or not."""
        return bool(self._backends)

    @property
    def why_none(self) -> str:
        """Why none of them is in rotation, if that is so."""
        if self._draining == len(self._backends):
            return "is draining"
        return "is unhealthy" if self.rotation.has_members else "has yet to pass a first check"

    def last_resort(self, tried: Collection[BackendPool]) -> BackendPool | None:
        """An ejected backend that was not tried, and has room, for when no other can be reached."""
        ejected = [
            pool
            for pool in self._backends
            if pool.health.is_ejected and pool not in tried and not pool.stopped and pool.has_own_room
        ]
        return random.choice(ejected) if ejected else None

    def put(self, pool: BackendPool, backend: Backend, now_s: float, *, warm: bool) -> None:
        """A backend is new in the catalog or has changed there. To be followed by `settle`.

        A `warm` one has been in use before this worker knew of it.
        """
        self._forget_zone(pool)
        held = self._backends.get(pool)
        if held is not None:
            self._draining -= held.draining
            if held.zone != backend.zone:
                self.balancer.remove(pool)
        self._draining += backend.draining
        if backend.draining and self._sticky is not None and not pool.stopped:
            pool.sticky_until_s = now_s + self._sticky.drain_s
        self._backends[pool] = backend
        if self._sticky is not None:
            self._sticky.put(pool, pool.key[1])
        self._note_zone(pool)
        if backend.draining:
            self.rotation.remove(pool)
        else:
            self.rotation.put(pool)
        self._place(pool, now_s, warm=warm)

    def remove(self, pool: BackendPool) -> None:
        """A backend is gone from the catalog. To be followed by `settle`."""
        self._forget_zone(pool)
        self._draining -= self._backends.pop(pool).draining
        self.rotation.remove(pool)
        self._drop(pool)
        if self._sticky is not None:
            self._sticky.remove(pool)

    def judge(self, pool: BackendPool, now_s: float) -> None:
        """A backend's health has changed. To be followed by `settle`."""
        backend = self._backends.get(pool)
        if backend is not None and not backend.draining:
            self.rotation.put(pool)
            self._place(pool, now_s, warm=False)

    def settle(self) -> bool:
        """Judge the service as a whole, after changes; whether it panics now and did not, or the other way
        round.
        """
        changed = self.rotation.settle()
        if changed:
            for pool in self._backends:
                self._place(pool, 0.0, warm=True)
        self.catch_up()
        if self._zones is not None:
            usable = self._own_usable_weight / self._own_weight if self._own_weight else 0.0
            self._zones.share = usable / self._zone_enough
        return changed

    def tick(self, now_s: float) -> None:
        """Let time pass."""
        for pool in self._slow_start.tick(now_s):
            self.balancer.put(pool, self._weight(pool))

    def _place(self, pool: BackendPool, now_s: float, *, warm: bool) -> None:
        if self._backends[pool].draining or not self.rotation.uses(pool):
            self._drop(pool)
            return
        if pool not in self._places:
            self._places[pool] = len(self.members)
            self.members.append(pool)
            if self._is_own(pool):
                self._own_usable_weight += self._backends[pool].weight
            if not warm and not self.rotation.panicking:
                self._slow_start.begin(pool, now_s)
        self.balancer.put(pool, self._weight(pool))

    def _drop(self, pool: BackendPool) -> None:
        place = self._places.pop(pool, None)
        if place is None:
            return
        last = self.members.pop()
        if last is not pool:
            self.members[place] = last
            self._places[last] = place
        backend = self._backends.get(pool)
        if backend is not None and self._is_own(pool):
            self._own_usable_weight -= backend.weight
        self._slow_start.forget(pool)
        self.balancer.remove(pool)

    def _weight(self, pool: BackendPool) -> int:
        weight = self._backends[pool].weight * _UNITS_OF_WEIGHT_1
        return max(1, int(weight * self._slow_start.share(pool)))

    # The own zone. A backend that drains counts as one that is missing there.

    def _is_own(self, pool: BackendPool) -> bool:
        return self._backends[pool].zone == self._own_zone

    def _note_zone(self, pool: BackendPool) -> None:
        if self._is_own(pool):
            self._own_weight += self._backends[pool].weight
            if pool in self._places:
                self._own_usable_weight += self._backends[pool].weight

    def _forget_zone(self, pool: BackendPool) -> None:
        if pool in self._backends and self._is_own(pool):
            self._own_weight -= self._backends[pool].weight
            if pool in self._places:
                self._own_usable_weight -= self._backends[pool].weight


def _hashed_name(pool: BackendPool) -> bytes:
    return pool.key[1].encode("utf-8", "surrogatepass")
