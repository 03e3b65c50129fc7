"""Requests of one service that wait: because all its backends have as many connections as they may, or because
it has as many requests in flight.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from weldr.proxy.pool import BackendPool


class Waiter(Protocol):
    """A request that waits."""

    def tried_backends(self) -> tuple[BackendPool, ...]:
        """Those that are none for it."""

    def wait_over(self, pool: BackendPool | None) -> None:
        """Try again; at this backend, if one is given: it has room. It waits no longer, but may come back."""


class Pending:
    """First come, first served. Belongs to the service for as long as that has requests or backends."""

    __slots__ = ("adaptive_limit", "answered", "exhausted", "in_flight", "limit", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Waiter, None] = {}
        """In the order in which they came."""
        self.in_flight = 0
        """Requests at any backend, of those that are counted: see `Supervision`."""
        self.limit: float = inf
        """How many there may be, ..."""
        self.adaptive_limit: float = inf
        """... and how many that are to be answered."""
        self.answered = 0
        """Those of them whose tunnel or response has begun, and lasts: how long tells nothing of load."""
        self.exhausted = False
        """Whether no backend had room when all were last looked at, and nobody has left one since that nobody
        took. So requests to a service with many full backends do not each look at all of them. Good only while
        some wait.
        """

    @property
    def full(self) -> bool:
        """Whether as many are in flight as may be."""
        return self.in_flight >= self.limit or self.unanswered >= self.adaptive_limit

    @property
    def unanswered(self) -> int:
        """Those in flight that may load the service as requests do."""
        return self.in_flight - self.answered

    def forget(self, waiter: Waiter) -> None:
        """It waits no longer, if it did."""
        self.waiting.pop(waiter, None)
        if not self.waiting:
            self.exhausted = False

    def wake_one(self, pool: BackendPool) -> None:
        """There is room at this backend: for who waits longest and can use it."""
        while not self.full:
            waiter = next((waiter for waiter in self.waiting if pool not in waiter.tried_backends()), None)
            if waiter is None:
                break
            del self.waiting[waiter]
            waiter.wait_over(pool)
            # One that was answered without being sent has left the room to the next.
            if pool.full or waiter in self.waiting:
                return
        self.exhausted = False

    def wake_all(self) -> None:
        """The backends or the limits have changed."""
        self.exhausted = False
        waiting, self.waiting = self.waiting, {}
        for waiter in waiting:
            waiter.wait_over(None)
