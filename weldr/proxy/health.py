"""Which backends of a service get requests, by what happens to them here and by what the manager's checks say.
Pure.

One backend, as this worker's own requests see it:

| state | meaning                              | leaves it                                                   |
|-------|--------------------------------------|-------------------------------------------------------------|
| in    | gets its share                       | too many failures, or asks for rest -> out, unless too many |
|       |                                      | of the service's backends are out already                   |
| out   | gets no request                      | its time is over -> trial                                   |
| trial | gets one request at a time, beside   | a success -> in; a failure -> out, for longer               |
|       | those from before; one more each     |                                                             |
|       | time it has lasted as long as the    |                                                             |
|       | time out                             |                                                             |

Who is in again is watched closely for as long as it was out: then two failures in a row suffice. A single one
does not, since it may be one of the few that any backend has.

A success costs the requests' path no more than to count it: what follows from successes (the end of a row of
failures, and of a trial) is found when the next failure comes, or in the sweep.

The service as a whole: a backend that drains is none of this module's. Those that wait for their first check
get nothing, whatever happens. Of the others those are used that are neither out nor down; but if their share is
below `panic_below`, it is more likely that the judgement is wrong than that they are, and all are used.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import Protocol

from weldr.model.health import Ejection, Standing

_ROW_SOON_AFTER = 2

_RECALL_EVERY_S = 0.5
"""It looks at all backends of a service, which may be thousands and all fail."""
_RECALL_AFTER_SHARE = 0.1
"""Of its time out: a recall that fails makes that longer, and so the next one later."""


class State(Enum):
    """See the module's table."""

    IN = "in"
    OUT = "out"
    TRIAL = "trial"


class BackendHealth:
    """One backend. `successes` is counted by whoever sees them, and never reset."""

    __slots__ = (
        "_back_s",
        "_lasted_s",
        "_next_trial_s",
        "_resort_successes",
        "_row",
        "_row_successes",
        "_seen_in_flight",
        "_seen_successes",
        "_times",
        "_trial_successes",
        "_window_failures",
        "_window_start_s",
        "_window_successes",
        "asked",
        "reason",
        "standing",
        "state",
        "successes",
        "tried_s",
        "until_s",
    )

    def __init__(self) -> None:
        self.successes = 0
        self.state = State.IN
        self.standing = Standing.UP
        """The manager's word."""
        self.until_s = 0.0
        """When its time out is over."""
        self.reason = ""
        """Why it is out."""
        self.asked = False
        """Whether it asked for that itself."""
        self.tried_s = float("-inf")
        """When its last trial began: what was answered before says nothing of what has become of it."""
        self._row = 0
        self._row_successes = 0
        self._window_start_s = float("-inf")
        self._window_failures = 0
        self._window_successes = 0
        self._times = 0
        """How often in a row it was out."""
        self._lasted_s = 0.0
        """How long it was out the last time."""
        self._back_s = 0.0
        self._trial_successes = 0
        self._next_trial_s = 0.0
        """When it gets one request more, should none of those that it has been sent have ended by then."""
        self._resort_successes: int | None = None
        """When it was used although it is out; `None` if it was not."""
        self._seen_in_flight = 0
        self._seen_successes = 0

    @property
    def is_good(self) -> bool:
        """Whether nothing speaks against it."""
        return self.state is State.IN and self.standing is Standing.UP

    @property
    def is_usable(self) -> bool:
        """Whether it gets requests, if enough others are."""
        return self.state is not State.OUT and self.standing is Standing.UP

    @property
    def is_ejected(self) -> bool:
        """Whether nothing else speaks against it, not even itself."""
        return self.state is State.OUT and not self.asked and self.standing is Standing.UP

    def failed(self, now_s: float, reason: str, policy: Ejection) -> str | None:
        """Count a failure; why it is enough now, if it is."""
        if self.state is State.OUT:
            return None
        if self.successes != self._row_successes:
            self._row, self._row_successes = 0, self.successes
        self._row += 1
        if self.state is State.TRIAL:
            return f"its request on trial failed: {reason}"
        enough = policy.consecutive_failures
        if now_s < self._back_s + self._lasted_s:
            enough = min(enough, _ROW_SOON_AFTER)
        if 0 < enough <= self._row:
            return f"{self._row} requests in a row failed, the last one: {reason}"
        return self._rate(now_s, reason, policy)

    def _rate(self, now_s: float, reason: str, policy: Ejection) -> str | None:
        if now_s - self._window_start_s > policy.window_s:
            self._window_start_s = now_s
            self._window_failures = 0
            self._window_successes = self.successes
        self._window_failures += 1
        requests = self._window_failures + self.successes - self._window_successes
        if 0 < policy.minimum_requests <= requests and self._window_failures >= policy.failure_rate * requests:
            return f"{self._window_failures} of {requests} requests failed, the last one: {reason}"
        return None

    def eject(self, now_s: float, reason: str, policy: Ejection) -> None:
        """Out, for longer the more often in a row; each time in as long as the first one out counts one
        less.
        """
        if self.state is State.IN:
            self._times = max(0, self._times - int((now_s - self._back_s) / policy.first_s))
        self._times += 1
        self._out(now_s, min(policy.first_s * self._times, policy.longest_s), reason, asked=False)

    def rest(self, now_s: float, for_s: float, policy: Ejection) -> None:
        """Out, since it asked for it."""
        for_s = min(for_s, policy.longest_s)
        self._out(now_s, for_s, f"it answered 503 and asked for {for_s:g} s", asked=True)

    def _out(self, now_s: float, for_s: float, reason: str, *, asked: bool) -> None:
        self.state = State.OUT
        self.until_s = now_s + for_s
        self._lasted_s = for_s
        self._resort_successes = None
        self.reason = reason
        self.asked = asked
        self._row = 0
        self._window_start_s = float("-inf")

    def is_silent(self, in_flight: int) -> bool:
        """Whether since the last call more requests have come to those that waited then, and none was
        answered.
        """
        silent = self.successes == self._seen_successes and 0 < self._seen_in_flight < in_flight
        self._seen_in_flight, self._seen_successes = in_flight, self.successes
        return silent

    def passed_check(self) -> None:
        """The manager's checks pass again: worth a trial, unless it asked for rest or comes and goes."""
        if self.state is State.OUT and not self.asked and self._times <= 1:
            self.until_s = 0.0

    def may_be_recalled(self, now_s: float) -> bool:
        """Whether it may have its trial before its time, since what takes its requests fails, too."""
        return self.is_ejected and now_s >= self.until_s - (1 - _RECALL_AFTER_SHARE) * self._lasted_s

    def resorted_to(self) -> None:
        """It is sent a request, since no other backend can be reached: if it answers well it gets its trial."""
        if self._resort_successes is None:
            self._resort_successes = self.successes

    def needs_another(self, now_s: float) -> bool:
        """Whether its trial, perhaps a slow upload, has lasted as long as it was out: once each time."""
        if self.state is not State.TRIAL or now_s < self._next_trial_s:
            return False
        self._next_trial_s = now_s + self._lasted_s
        return True

    def tick(self, now_s: float) -> bool:
        """Do what time and successes have brought about; whether the state has changed."""
        has_answered = self._resort_successes is not None and self.successes > self._resort_successes
        if self.state is State.OUT and (now_s >= self.until_s or has_answered):
            self.state = State.TRIAL
            self.tried_s = now_s
            self._next_trial_s = now_s + self._lasted_s
            self._trial_successes = self.successes
            return True
        if self.state is State.TRIAL and self.successes != self._trial_successes:
            self.state = State.IN
            self._back_s = now_s
            return True
        return False


class Member(Hashable, Protocol):
    """A backend as a rotation needs it."""

    health: BackendHealth

    def admit(self, requests: int | None) -> None:
        """Take at most so many more requests at a time, or as many as its own limit says."""


class Rotation:
    """The backends of one service that do not drain."""

    def __init__(self, on_change: Callable[[Member], None]) -> None:
        """`on_change` is called with each member whose state is another."""
        self.panicking = False
        """Whether so few are good that all are used."""
        self._recalled_s = float("-inf")
        self._on_change = on_change
        self._policy = Ejection()
        self._panic_below = 0.0
        self._members: dict[Member, tuple[bool, bool]] = {}
        """Those that do not wait for a first check; whether each is counted as good, and as usable."""
        self._good = 0
        self._usable = 0

    def configure(self, policy: Ejection, panic_below: float) -> None:
        """Its policy."""
        self._policy = policy
        self._panic_below = panic_below

    def put(self, member: Member) -> None:
        """It belongs to it, or what the manager says of it has changed. To be followed by `settle`."""
        if member.health.standing is Standing.WAITING:
            self.remove(member)
            return
        self._members.setdefault(member, (False, False))
        self._count(member, member.health.is_good, member.health.is_usable)
        self._settle_one(member)

    def remove(self, member: Member) -> None:
        """It does not belong to it any more, if it did. To be followed by `settle`."""
        if member in self._members:
            self._count(member, False, False)
            del self._members[member]

    def settle(self) -> bool:
        """Judge the whole by what has changed; whether it panics now and did not, or the other way round."""
        panicking = self._usable < self._panic_below * len(self._members)
        if panicking == self.panicking:
            return False
        self.panicking = panicking
        for member in self._members:
            self._settle_one(member)
        return True

    @property
    def has_members(self) -> bool:
        """Whether there is any that does not wait for its first check."""
        return bool(self._members)

    def uses(self, member: Member) -> bool:
        """Whether it is to get requests."""
        health = member.health
        return health.standing is not Standing.WAITING and (self.panicking or health.is_usable)

    def failed(self, member: Member, now_s: float, reason: str) -> None:
        """A request to it failed."""
        health = member.health
        why = health.failed(now_s, reason, self._policy)
        if why is None:
            return
        if health.state is State.TRIAL or self._may_spare_one_more():
            health.eject(now_s, why, self._policy)
            self._changed(member)
        elif now_s >= self._recalled_s + _RECALL_EVERY_S:
            # It fails and has to stay, since others are out: perhaps one of them is well again by now.
            self._recalled_s = now_s
            recallable = [other.health for other in self._members if other.health.may_be_recalled(now_s)]
            if recallable:
                min(recallable, key=lambda other: other.until_s).until_s = 0.0

    def rest(self, member: Member, now_s: float, for_s: float) -> None:
        """It asks for no requests for so long."""
        health = member.health
        if health.state is State.TRIAL or (health.state is State.IN and self._may_spare_one_more()):
            health.rest(now_s, for_s, self._policy)
            self._changed(member)

    def tick(self, member: Member, now_s: float) -> None:
        """Let time pass for one that is out or on trial."""
        if member.health.tick(now_s):
            self._changed(member)
        elif member.health.needs_another(now_s):
            self._settle_one(member)

    def _may_spare_one_more(self) -> bool:
        count = len(self._members)
        if count < 2 or self._policy.max_share == 0:
            return False
        return count - self._good + 1 <= max(1, int(self._policy.max_share * count))

    def _changed(self, member: Member) -> None:
        if member in self._members:
            self._count(member, member.health.is_good, member.health.is_usable)
        self._settle_one(member)
        self._on_change(member)

    def _count(self, member: Member, is_good: bool, is_usable: bool) -> None:
        was_good, was_usable = self._members[member]
        self._good += is_good - was_good
        self._usable += is_usable - was_usable
        self._members[member] = is_good, is_usable

    def _settle_one(self, member: Member) -> None:
        state = member.health.state
        if self.panicking or state is State.IN:
            member.admit(None)
        else:
            member.admit(0 if state is State.OUT else 1)
