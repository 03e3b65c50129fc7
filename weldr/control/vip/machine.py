"""One virtual IP's life on one instance: the states, and what to do next in each. Pure.

| state | means | goes to |
| --- | --- | --- |
| following | another one holds it, or nobody; the address is not here | claiming, announcing, fault |
| claiming | first in the queue; waits until the address is certain to be free | announcing, following, fault |
| announcing | it is held: the address is here | releasing; following: it lapsed |
| releasing | the address is gone from here, etcd is being told | following, fault; claiming, announcing: anew |
| fault | this host cannot hold it | following, claiming, announcing |

What to do depends on the first row that fits; *held* are the states in which the address is here.

| | held | not held |
| --- | --- | --- |
| it is no longer wanted here | release | withdraw |
| this host cannot hold it | release | withdraw, fault |
| somebody wants it elsewhere, or this instance is of no use | | withdraw |
| it does not stand in the queue | stand: the lease ended while promises held | stand, unless it has promised |
| etcd has not been asked | confirm | confirm |
| another one leads | release | follow |
| it leads, somebody wants it elsewhere, and that one is next | release | |
| it leads, is of no use, and others stand | release | |
| it leads, and has promised not to claim | | withdraw: the holder is to lead when it is back |
| it leads, the record is another's | claim | as `rules.may_claim` says |
| it leads | keep | as `rules.may_claim` says |

Without etcd the last rows cannot be decided, and nothing is done: the address then lives by promises, or
lapses. Nor is it given away then, for whatever reason: nobody else could claim it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """See the module."""

    FOLLOWING = "following"
    CLAIMING = "claiming"
    ANNOUNCING = "announcing"
    RELEASING = "releasing"
    FAULT = "fault"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.FOLLOWING: frozenset({State.CLAIMING, State.ANNOUNCING, State.FAULT}),
    State.CLAIMING: frozenset({State.ANNOUNCING, State.FOLLOWING, State.FAULT}),
    State.ANNOUNCING: frozenset({State.RELEASING, State.FOLLOWING}),
    State.RELEASING: frozenset({State.FOLLOWING, State.FAULT, State.CLAIMING, State.ANNOUNCING}),
    State.FAULT: frozenset({State.FOLLOWING, State.CLAIMING, State.ANNOUNCING}),
}
"""The first table: whatever happens, no other change of the state comes about."""


class Action(StrEnum):
    """What to do next."""

    STAND = "stand"
    WITHDRAW = "withdraw"
    CONFIRM = "confirm"
    FOLLOW = "follow"
    CLAIM = "claim"
    KEEP = "keep"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision depends on."""

    held: bool
    """Whether the address is here."""
    stands: bool
    """Whether we have a key in the queue, as far as we know."""
    leads: bool | None
    """`None`: etcd has not been asked in this turn."""
    recorded: bool
    """Whether etcd's record names our present candidacy as the holder."""
    others_stand: bool
    unwanted: str = ""
    """Why it should not be held here any more."""
    problem: str = ""
    """Why this host cannot hold it."""
    elsewhere: str = ""
    """Who wants it elsewhere. If it is held: once that can be done."""
    useless: str = ""
    """Why this instance would serve nobody."""
    promised: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, the state that goes with it, and why."""

    action: Action
    state: State
    reason: str = ""


def decide(facts: Facts) -> Decision:
    """The table above, row by row."""
    return _decide_held(facts) if facts.held else _decide_not_held(facts)


def _decide_held(facts: Facts) -> Decision:
    reason = facts.unwanted or facts.problem
    if reason:
        return Decision(Action.RELEASE, State.RELEASING, reason)
    if not facts.stands:
        return Decision(Action.STAND, State.ANNOUNCING)
    if facts.leads is None:
        return Decision(Action.CONFIRM, State.ANNOUNCING)
    if not facts.leads:
        return Decision(Action.RELEASE, State.RELEASING, "another instance leads")
    reason = facts.elsewhere or (facts.useless if facts.others_stand else "")
    if reason:
        return Decision(Action.RELEASE, State.RELEASING, reason)
    return Decision(Action.KEEP if facts.recorded else Action.CLAIM, State.ANNOUNCING)


def _decide_not_held(facts: Facts) -> Decision:
    if facts.unwanted:
        return Decision(Action.WITHDRAW, State.FOLLOWING, facts.unwanted)
    if facts.problem:
        return Decision(Action.WITHDRAW, State.FAULT, facts.problem)
    if facts.elsewhere or facts.useless:
        return Decision(Action.WITHDRAW, State.FOLLOWING, facts.elsewhere or facts.useless)
    if facts.promised and (facts.leads or not facts.stands):
        return Decision(Action.WITHDRAW, State.FOLLOWING, "it has promised the holder not to claim")
    if not facts.stands:
        return Decision(Action.STAND, State.FOLLOWING)
    if facts.leads is None:
        return Decision(Action.CONFIRM, State.FOLLOWING)
    if not facts.leads:
        return Decision(Action.FOLLOW, State.FOLLOWING)
    return Decision(Action.CLAIM, State.CLAIMING)
