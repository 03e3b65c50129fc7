"""A service as requests find it: its policy in force, and who of its backends can take one."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from weldr.model.resilience import Retries
from weldr.model.values import Service
from weldr.proxy.balancing.balancer import Balancer
from weldr.proxy.balancing.chooser import Chooser
from weldr.proxy.balancing.membership import Membership
from weldr.proxy.guard import Guard
from weldr.proxy.pool import BackendPool
from weldr.proxy.retry_budget import Budget


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """A service, ready for use. Its policy is fixed; who its backends are changes in its `membership`."""

    name: str
    membership: Membership
    balancer: Balancer[BackendPool]
    chooser: Chooser | None
    """Chooses in place of the balancer, where it takes more than that."""
    members: Sequence[BackendPool]
    """Those in rotation, at any time."""
    policy: Service
    retries: Retries
    """The policy's, unless a route has others."""
    guard: Guard
    budget: Budget
    """The guard's."""
    supervised: bool
    """Whether its requests need a `Supervision`."""
    max_pending: int
    connect_s: float
    response_s: float
    read_s: float
    tunnel_idle_s: float

    @property
    def has_backends(self) -> bool:
        """Whether there are any, in rotation or not."""
        return self.membership.has_backends

    @property
    def why_none(self) -> str:
        """Why none of them is in rotation, if that is so."""
        return self.membership.why_none

    def with_room(self, tried: Collection[BackendPool]) -> BackendPool | None:
        """Any backend in rotation, but for those that were tried, that can take one more request."""
        pending, members = self.guard.pending, self.members
        if not members or (pending.exhausted and pending.waiting):
            return None
        # From a random one on, since the first would otherwise get all that is left over.
        start = random.randrange(len(members))
        for index in range(-start, len(members) - start):
            pool = members[index]
            if not pool.full and pool not in tried:
                return pool
        pending.exhausted = not tried
        return None

    def wake(self) -> None:
        """Let those that wait try again, in their turn, as far as the service has room for them."""
        pending = self.guard.pending
        for _ in range(len(pending.waiting)):
            pool = None if pending.full else self._room_for_one_that_waits()
            if pool is None:
                break
            pending.wake_one(pool)

    def _room_for_one_that_waits(self) -> BackendPool | None:
        """A backend for who waits longest of those for whom there is one."""
        if self.with_room(()) is None:
            # There may be thousands of either.
            return None
        for waiter in self.guard.pending.waiting:
            pool = self.with_room(waiter.tried_backends())
            if pool is not None:
                return pool
        return None
