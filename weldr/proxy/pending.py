"""Requests of one service that wait because all its backends have as many connections as they may."""

from __future__ import annotations

from typing import Protocol


class Waiter(Protocol):
    """A request that waits."""

    def wait_over(self) -> None:
        """Try again. It is no longer among those that wait; it may come back."""


class Pending:
    """First come, first served. Belongs to the service for as long as that has requests or backends."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[Waiter, None] = {}
        """In the order in which they came."""

    def wake_one(self) -> None:
        """A backend can take one more."""
        for waiter in self.waiting:
            del self.waiting[waiter]
            waiter.wait_over()
            return

    def wake_all(self) -> None:
        """The backends or their limits have changed."""
        waiting, self.waiting = self.waiting, {}
        for waiter in waiting:
            waiter.wait_over()
