"""Rules taken away: each has the world, and what weldr runs in it, do without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.control import vip_arrivals, vip_faults, vip_steps
from tests.unit.control.vip_world import World
from weldr.control.vip import promises, rules
from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import PromiseBook, Round
from weldr.control.vip.rules import Claimant, Verdict, may_claim
from weldr.model import vip_timing
from weldr.model.vip_timing import Timing
from weldr.model.vips import Holder

Flaw = Callable[[pytest.MonkeyPatch], None]


def claims_with(**changes: Any) -> Flaw:
    """Every claimant believes something else than what is so."""

    def judge(record: Holder | None, me: Claimant) -> Verdict:
        return may_claim(record, dataclasses.replace(me, **changes))

    return lambda patch: patch.setattr(vip_steps, "may_claim", judge)


def refuses_in_spite_of_a_promise(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PromiseBook, "refuse", lambda self, vip, token, promise_s, now_s: 0.0)


def refuses_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    refuse = PromiseBook.refuse
    patch.setattr(
        PromiseBook,
        "refuse",
        lambda self, vip, token, promise_s, now_s: refuse(self, vip, token, -100.0, now_s),
    )


def asks_nobody(patch: pytest.MonkeyPatch) -> None:
    """Who comes later takes the record for all that there is to know."""
    patch.setattr(vip_steps, "is_known_to_be_free", lambda world, node: True)


def goes_by_names_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "is_same_instance", lambda record, name, machine: True)
    patch.setattr(vip_steps, "is_same_instance", lambda record, name, machine: True)


def counts_a_promise_by_the_name_alone(patch: pytest.MonkeyPatch) -> None:
    asks_nobody(patch)
    patch.setattr(vip_steps, "is_reachable", lambda world, node, name, machine: True)


def takes_a_neighbours_address_for_its_own(patch: pytest.MonkeyPatch) -> None:
    for module in (rules, vip_steps):
        patch.setattr(module, "is_own", lambda record, name, host, machine: record.host == host)


def both(*flaws: Flaw) -> Flaw:
    """What another rule would make good."""

    def patch_all(patch: pytest.MonkeyPatch) -> None:
        for flaw in flaws:
            flaw(patch)

    return patch_all


def does_not_keep_promises(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PromiseBook, "until_s", lambda self, vip, released=0: 0.0)


def one_promise_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Round, "note", lambda self, peer, refusal: not refusal)


def a_refusal_is_not_heard(patch: pytest.MonkeyPatch) -> None:
    note = Round.note
    patch.setattr(Round, "note", lambda self, peer, refusal: note(self, peer, ""))


def asks_only_the_peers_that_it_has_read(patch: pytest.MonkeyPatch) -> None:
    ask = vip_steps._ask

    def forgetful(world: World, node: Any) -> None:
        node.unsure = frozenset()
        ask(world, node)

    patch.setitem(vip_steps._ACTIONS, "ask", forgetful)


def promises_of_too_few_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "forget_promises", lambda self, now_s: None)


def a_claim_names_whom_nobody_asks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_steps, "claimed_peers", vip_steps.peers_now)
    patch.setattr(vip_steps, "_may_name", lambda world, node, peers: None)


def an_upgrade_forgets_whom_the_record_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_faults, "handed_unsure", lambda node: node.unsure)


def asks_on_where_the_record_may_name_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_steps, "to_be_asked", frozenset)


def counts_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "confirm", _from_the_answer(Hold.confirm))


def _from_the_answer(confirm: Callable[[Hold, float], None]) -> Callable[[Hold, float], None]:
    return lambda self, sent_s: confirm(self, sent_s + 1.0)


def counts_promises_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hold, "promise", _from_the_answer(Hold.promise))


def renews_in_spite_of_a_doubt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        vip_arrivals,
        "counts",
        lambda hold, record, token: record is not None and record.token == token == hold.token,
    )


def takes_the_kernel_for_punctual(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timing, "latest_set_s", lambda self, window_end_s: window_end_s - self.lifetime_s)


def takes_seconds_for_exact(patch: pytest.MonkeyPatch) -> None:
    exact = vip_steps.idle_s
    patch.setattr(vip_steps, "idle_s", lambda world, lease: exact(world, lease) + 1)


def waits_for_no_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "wait_s", lambda window_s: 0.0)


def ignores_drift(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(vip_timing, "DRIFT", 0.0)
    patch.setattr(promises, "DRIFT", 0.0)
