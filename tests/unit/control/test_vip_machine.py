"""The table of a virtual IP's life, row by row: these are the facts, that must be done."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from weldr.control.vip import machine
from weldr.control.vip.hearing import Hearing
from weldr.control.vip.hold import Hold
from weldr.control.vip.machine import TRANSITIONS, Action, Facts, State, decide
from weldr.control.vip.messages import Heartbeat, Message, PromiseQuestion, seal, unseal
from weldr.model.vip_timing import Timing


def facts(**changes: Any) -> Facts:
    ordinary: dict[str, Any] = {
        "held": False,
        "stands": True,
        "leads": None,
        "recorded": False,
        "others_stand": True,
    }
    return Facts(**(ordinary | changes))


@pytest.mark.parametrize(
    ("given", "action", "state"),
    [
        (facts(unwanted="its key is gone"), Action.WITHDRAW, State.FOLLOWING),
        (facts(problem="no carrier"), Action.WITHDRAW, State.FAULT),
        (facts(elsewhere="it is to move"), Action.WITHDRAW, State.FOLLOWING),
        (facts(useless="no worker"), Action.WITHDRAW, State.FOLLOWING),
        (facts(promised=True), Action.CONFIRM, State.FOLLOWING),
        (facts(promised=True, leads=False), Action.FOLLOW, State.FOLLOWING),
        (facts(promised=True, leads=True), Action.WITHDRAW, State.FOLLOWING),
        (facts(promised=True, stands=False), Action.WITHDRAW, State.FOLLOWING),
        (facts(stands=False), Action.STAND, State.FOLLOWING),
        (facts(), Action.CONFIRM, State.FOLLOWING),
        (facts(leads=False), Action.FOLLOW, State.FOLLOWING),
        (facts(leads=True), Action.CLAIM, State.CLAIMING),
        (facts(held=True, unwanted="its key is gone"), Action.RELEASE, State.RELEASING),
        (facts(held=True, problem="no carrier"), Action.RELEASE, State.RELEASING),
        (facts(held=True, elsewhere="moved"), Action.CONFIRM, State.ANNOUNCING),
        (facts(held=True, elsewhere="moved", stands=False), Action.STAND, State.ANNOUNCING),
        (facts(held=True, leads=True, elsewhere="moved"), Action.RELEASE, State.RELEASING),
        (facts(held=True, useless="no worker"), Action.CONFIRM, State.ANNOUNCING),
        (facts(held=True, leads=True, useless="no worker"), Action.RELEASE, State.RELEASING),
        (
            facts(held=True, leads=True, recorded=True, useless="no worker", others_stand=False),
            Action.KEEP,
            State.ANNOUNCING,
        ),
        (facts(held=True, stands=False), Action.STAND, State.ANNOUNCING),
        (facts(held=True), Action.CONFIRM, State.ANNOUNCING),
        (facts(held=True, leads=False), Action.RELEASE, State.RELEASING),
        (facts(held=True, leads=True, recorded=True), Action.KEEP, State.ANNOUNCING),
        (facts(held=True, leads=True), Action.CLAIM, State.ANNOUNCING),
    ],
)
def test_the_table(given: Facts, action: Action, state: State) -> None:
    decision = decide(given)
    assert (decision.action, decision.state) == (action, state)


def test_the_table_of_states_is_the_one_that_counts() -> None:
    rows = [line.strip("| ").split(" | ") for line in (machine.__doc__ or "").splitlines()]
    told = {cells[0]: set(re.findall("|".join(State), cells[2])) for cells in rows if cells[0] in set(State)}
    assert told == {str(state): set(map(str, afters)) for state, afters in TRANSITIONS.items()}


def test_whatever_the_facts_nothing_is_claimed_that_etcd_did_not_just_say() -> None:
    words = ("", "a reason")
    for (
        held,
        stands,
        leads,
        recorded,
        others,
        unwanted,
        problem,
        elsewhere,
        useless,
        promised,
    ) in itertools.product(
        *[(False, True)] * 2, (None, False, True), *[(False, True)] * 2, *[words] * 4, (False, True)
    ):
        given = Facts(held, stands, leads, recorded, others, unwanted, problem, elsewhere, useless, promised)
        decision = decide(given)
        if decision.action in (Action.CLAIM, Action.KEEP):
            assert leads
            assert stands
            assert not unwanted
            assert not problem
            assert held or not promised
        if decision.action is Action.RELEASE:
            assert held
            assert unwanted or problem or leads is not None, "etcd is away: nobody else could claim it"


def test_a_hold_ends_by_the_clock_and_is_prolonged_from_before_the_question() -> None:
    timing = Timing()
    hold = Hold(5, timing, 0.0, 0.0, 0.0)
    hold.confirm(10.0)
    assert hold.window_end_s == pytest.approx(10 + timing.window_s)
    assert hold.latest_set_s == pytest.approx(10.1)
    assert hold.may_set_again(10.079)
    assert not hold.may_set_again(10.081), "too close: a system call that ends too late takes the address away"
    hold.confirm(9.0)
    assert hold.window_end_s == pytest.approx(10 + timing.window_s), "an older answer takes nothing away"
    hold.promise(10.5)
    assert hold.latest_set_s == pytest.approx(10.5 + 2.97 - 2.1)
    hold.note_set(10.6)
    assert hold.expires_s == 11.6
    assert not hold.should_ask(0.3)
    assert hold.should_ask(0.5)


def test_silence_is_counted_in_turns_so_that_a_frozen_process_unseats_nobody() -> None:
    hearing = Hearing()
    hearing.note("a", Heartbeat({"web": 5}, ["b"]))
    for _ in range(5):
        hearing.take_turn({"a"})
    assert hearing.silence_of_holder_s("a", "web", 5) < 0.3
    assert hearing.heard_now() == ["a"]
    hearing.take_turn({"a"})
    assert hearing.silence_of_holder_s("a", "web", 5) == pytest.approx(0.3)
    hearing.note("a", Heartbeat({"web": 5}, ["b"]))
    assert hearing.silence_of_holder_s("a", "web", 5) == 0.0
    assert hearing.heard_by("b") == {"a"}


def test_who_was_never_heard_to_hold_is_not_silent() -> None:
    hearing = Hearing()
    assert hearing.silence_of_holder_s("a", "web", 5) == 0.0
    hearing.note("a", Heartbeat({"web": 4}, []))
    for _ in range(20):
        hearing.take_turn({"a"})
    assert hearing.silence_of_holder_s("a", "web", 5) == 0.0
    hearing.take_turn(set())
    assert hearing.silence_of_holder_s("a", "web", 4) == 0.0, "its key in etcd is gone"


def test_a_message_with_another_key_or_a_changed_byte_is_nothing() -> None:
    key, other = b"k" * 32, b"o" * 32
    message = Message("a", "boot", 1, "theirs", PromiseQuestion(1, "web", 5, 3.0))
    datagram = seal(key, message)
    assert unseal(key, datagram) == message
    assert unseal(other, datagram) is None
    for index in range(len(datagram)):
        changed = datagram[:index] + bytes([datagram[index] ^ 1]) + datagram[index + 1 :]
        assert unseal(key, changed) is None
    assert unseal(key, b"") is None
    assert unseal(key, seal(key, message)[:32]) is None
