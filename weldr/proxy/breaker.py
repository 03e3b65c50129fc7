"""Whether a service gets requests, by how many of its tries fail. Pure: time is passed in.

| state     | meaning                                 | leaves it                                              |
|-----------|-----------------------------------------|--------------------------------------------------------|
| closed    | all requests are let through            | too large a share of enough tries fails -> open        |
| open      | none is                                 | its time is over and a request comes -> half-open      |
| half-open | a few are, on trial                     | all trials succeed -> closed; one fails -> open        |

A trial may last, such as an upload of a slow client: while nothing else comes of them, one more request is on
trial each time that it would have been open for.

Each request that is let through gets a ticket, which is good until the state changes: so what was sent before
says nothing about what has become of the service since.
"""

from __future__ import annotations

from enum import Enum

from weldr.model.resilience import CircuitBreaker
from weldr.proxy.window import Window

Ticket = int


class State(Enum):
    """See the module's table."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """One service's, in one worker."""

    __slots__ = (
        "_failures",
        "_next_s",
        "_passed",
        "_policy",
        "_ticket",
        "_tries",
        "_under_way",
        "state",
        "until_s",
    )

    def __init__(self, policy: CircuitBreaker) -> None:
        self.state = State.CLOSED
        self.until_s = 0.0
        """When it is open no longer."""
        self._policy = policy
        self._tries = Window(policy.window_s)
        self._failures = Window(policy.window_s)
        self._ticket = 0
        self._under_way = 0
        """Requests on trial whose outcome is not known yet."""
        self._passed = 0
        self._next_s = 0.0
        """When one more is on trial, however many are."""

    def admit(self, now_s: float) -> Ticket | None:
        """A ticket for a request that may be sent; `None` if it may not."""
        if self.state is State.OPEN and now_s >= self.until_s:
            self._become(State.HALF_OPEN)
        if self.state is State.OPEN:
            return None
        if self.state is State.HALF_OPEN:
            if self._under_way + self._passed >= self._policy.trials and now_s < self._next_s:
                return None
            self._next_s = now_s + self._policy.open_s
            self._under_way += 1
        return self._ticket

    def wait_s(self, now_s: float) -> float:
        """After which time a request may be let through again, at the earliest."""
        return max(0.0, self.until_s - now_s)

    def succeeded(self, now_s: float, ticket: Ticket) -> bool:
        """A try with this ticket did. True if that has closed it."""
        if ticket != self._ticket:
            return False
        if self.state is State.CLOSED:
            self._tries.add(now_s)
            return False
        self._under_way -= 1
        self._passed += 1
        if self._passed < self._policy.trials:
            return False
        self._become(State.CLOSED)
        return True

    def failed(self, now_s: float, ticket: Ticket) -> bool:
        """A try with this ticket did. True if that has opened it."""
        if ticket != self._ticket:
            return False
        if self.state is State.CLOSED:
            self._tries.add(now_s)
            self._failures.add(now_s)
            tries = self._tries.total(now_s)
            if tries < self._policy.minimum_requests:
                return False
            if self._failures.total(now_s) < self._policy.failure_rate * tries:
                return False
        self._become(State.OPEN)
        self.until_s = now_s + self._policy.open_s
        return True

    def abandoned(self, ticket: Ticket) -> None:
        """A request with this ticket has ended without an outcome: another may be on trial in its place."""
        if self.state is State.HALF_OPEN and ticket == self._ticket:
            self._under_way -= 1

    def _become(self, state: State) -> None:
        self.state = state
        self._ticket += 1
        self._under_way = self._passed = 0
        self._tries.clear()
        self._failures.clear()
