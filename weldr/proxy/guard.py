"""What a worker remembers of one service to spare it, and others: budget, breaker, latency, and who waits.

It belongs to the service's name, and outlives the tables: a change of one part of the policy begins that part
anew and leaves the others alone.
"""

from __future__ import annotations

from math import inf

from weldr.model.values import Service
from weldr.proxy.breaker import Breaker, State
from weldr.proxy.gradient import Gradient
from weldr.proxy.pending import Pending
from weldr.proxy.recent_latency import RecentLatency
from weldr.proxy.retry_budget import Budget


class Guard:
    """See the module."""

    __slots__ = ("_policy", "breaker", "budget", "gradient", "latency", "pending")

    def __init__(self) -> None:
        self._policy = Service()
        self.pending = Pending()
        self.budget = Budget(self._policy.retries.budget)
        self.breaker: Breaker | None = None
        self.gradient: Gradient | None = None
        self.latency: RecentLatency | None = None
        """Known for the sake of hedging only."""

    def adopt(self, policy: Service) -> None:
        """Go by this policy from now on."""
        before, self._policy = self._policy, policy
        if policy.retries.budget != before.retries.budget:
            self.budget = Budget(policy.retries.budget)
        if policy.circuit_breaker != before.circuit_breaker:
            self.breaker = None if policy.circuit_breaker is None else Breaker(policy.circuit_breaker)
        if policy.adaptive_concurrency != before.adaptive_concurrency:
            adaptive = policy.adaptive_concurrency
            self.gradient = None if adaptive is None else Gradient(adaptive)
        if policy.hedging != before.hedging:
            self.latency = None if policy.hedging is None else RecentLatency(policy.hedging.percentile)
        self._limit()

    @property
    def supervises(self) -> bool:
        """Whether the policy asks for more than requests get anyway: each then has a `Supervision`."""
        policy = self._policy
        return (
            policy.deadline is not None
            or policy.hedging is not None
            or policy.retries.per_try_s is not None
            or policy.limits.requests_in_flight is not None
            or self.breaker is not None
            or self.gradient is not None
        )

    @property
    def circuit_is_open(self) -> bool:
        """Whether the circuit breaker keeps requests away, or lets but a few through on trial."""
        return self.breaker is not None and self.breaker.state is not State.CLOSED

    def open_s(self, now_s: float) -> float:
        """How long the circuit breaker keeps requests away."""
        return 0.0 if self.breaker is None else self.breaker.wait_s(now_s)

    def tick(self, now_s: float) -> None:
        """Let time pass: called twice a second."""
        self.budget.tick(now_s)
        if self.latency is not None:
            self.latency.tick(now_s)
        if self.gradient is not None:
            self.gradient.tick(now_s)
            self._limit()

    def _limit(self) -> None:
        fixed = self._policy.limits.requests_in_flight
        self.pending.limit = inf if fixed is None else fixed
        self.pending.adaptive_limit = inf if self.gradient is None else self.gradient.limit
