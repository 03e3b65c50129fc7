"""What the checks of one backend have shown so far. Pure.

| state   | meaning                           | leaves it                                      |
|---------|-----------------------------------|------------------------------------------------|
| unknown | no result yet that tells anything | a pass -> up; `fall` failures in a row -> down |
| up      | works                             | `fall` failures in a row -> down               |
| down    | does not work                     | `rise` passes in a row -> up                   |

At first a single pass suffices: nothing speaks against a new backend. And a single failure suffices when a
worker has seen, too, that requests are not answered: two who do not know of each other agree.
"""

from __future__ import annotations

from enum import Enum

from weldr.model.health import HealthCheck, Standing

# While a row of results may become a change, the next check comes sooner: so a change takes a few checks and
# not a few intervals. So it does for a while after a backend went down: most of them are only being started
# anew.
_SOONER = 5
_CHECKS_SOON_AFTER_DOWN = 30


class State(Enum):
    """See the module's table."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class CheckRecord:
    """See the module."""

    __slots__ = ("_failures", "_passed_once", "_passes", "reason", "state")

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.reason = ""
        """Of the state."""
        self._passes = 0
        self._failures = 0
        self._passed_once = False

    def assume_down(self, reason: str) -> None:
        """Somebody who has checked it knows that it does not work; before the first result of our own."""
        self.state, self.reason = State.DOWN, reason

    def note(self, failure: str | None, check: HealthCheck, *, suspected: bool = False) -> bool:
        """Take in a result, `failure` being the reason of a bad one; whether the state has changed.

        `suspected` says that requests fail, too.
        """
        if failure is None:
            self._passes, self._failures = self._passes + 1, 0
            self._passed_once = True
        else:
            self._passes, self._failures = 0, self._failures + 1
        state = self._next(1 if suspected else check.fall, check.rise)
        if state is self.state:
            return False
        self.state = state
        count = self._passes if failure is None else self._failures
        outcome = "passed" if failure is None else f"failed, the last one: {failure}"
        self.reason = f"{count} check{'' if count == 1 else 's in a row'} {outcome}"
        if failure is not None and count < check.fall:
            self.reason += "; and its requests fail"
        return True

    def _next(self, fall: int, rise: int) -> State:
        if self.state is not State.DOWN:
            if self._failures >= fall:
                return State.DOWN
            return State.UP if self._passes else self.state
        return State.UP if self._passes >= rise else State.DOWN

    def standing(self, check: HealthCheck) -> Standing:
        """What this makes of the backend."""
        if check.require_check and not self._passed_once:
            return Standing.WAITING
        return Standing.DOWN if self.state is State.DOWN else Standing.UP

    def pause_s(self, check: HealthCheck) -> float:
        """From one check to the next."""
        if self.state is State.UP:
            settled = self._passes > 0
        else:
            settled = self._failures >= check.fall + _CHECKS_SOON_AFTER_DOWN
        return check.interval_s if settled else check.interval_s / _SOONER
