"""One coarse clock for every wait of the data plane, in place of a timer for each.

A connection has two deadlines, both absolute and by the event loop's clock: to set one is to assign a number.
Twice a second all connections are looked at, and those whose deadline has passed are told. So a wait may take
up to half a second longer than it is meant to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Protocol

SWEEP_INTERVAL_S = 0.5
NEVER = inf


class HasDeadline(Protocol):
    """For the peer to read what it is sent: a `WriteWatch`."""

    deadline_s: float


class _NoDeadline:
    """For something that writes nothing itself."""

    deadline_s = NEVER


NO_DEADLINE = _NoDeadline()


class Watched(Protocol):
    """Something that must not wait for ever."""

    deadline_s: float
    """For what the peer is to send, or to ask for."""

    @property
    def writes(self) -> HasDeadline: ...

    def expire(self, now_s: float) -> None:
        """`deadline_s` has passed."""

    def expire_write(self, now_s: float) -> None:
        """`writes.deadline_s` has passed."""

    def give_up(self) -> None:
        """An exception that nobody expected: end it, with all that belongs to it, so that nobody waits."""


class Deadlines:
    """The connections of this worker, and the sweep over them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_fault: Callable[[str, BaseException], None]) -> None:
        """`on_fault` is told of exceptions that nobody expected."""
        self._loop = loop
        self._on_fault = on_fault
        self._watched: set[Watched] = set()

    def add(self, watched: Watched) -> None:
        self._watched.add(watched)

    def remove(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def sweep(self) -> None:
        """Tell all whose deadline has passed."""
        now_s = self._loop.time()
        late = [each for each in self._watched if each.deadline_s <= now_s or each.writes.deadline_s <= now_s]
        for each in late:
            if each not in self._watched:
                # It has ended, or does not wait any more, by what another was told before.
                continue
            try:
                if each.writes.deadline_s <= now_s:
                    each.expire_write(now_s)
                elif each.deadline_s <= now_s:
                    each.expire(now_s)
            except Exception as error:
                self._on_fault("sweep", error)
                each.give_up()
