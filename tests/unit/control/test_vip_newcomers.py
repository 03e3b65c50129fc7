"""Whoever is named among a holder's peers has to be asked for a promise; one that was named unasked is bound by
nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import Round
from weldr.control.vip.rules import NOBODY, AskPeers, Claim
from weldr.control.vip.view import View, WantedVip
from weldr.etcd.client import Put
from weldr.etcd.clock import now_s
from weldr.model.events import KeyValue
from weldr.model.keys import KeySpace
from weldr.model.vips import Holder, Peer, Vip

VIP = Vip(address="10.0.0.100")


def machines(*instances: str) -> dict[str, str]:
    """Each is on one of its own."""
    return {name: name.upper() for name in instances}


def holder(*others: str) -> tuple[VirtualIp, dict[str, str]]:
    """It holds with these peers; and the instances that there are, with their machines."""
    there = machines(*others)
    view = View(KeySpace())
    view.vips["web"] = WantedVip(VIP, 1)
    context: Any = SimpleNamespace(
        view=view,
        me="a",
        host="A",
        machine="A",
        client=None,
        keys=view.keys,
        book=SimpleNamespace(until_s=lambda name, released=0: 0.0, learn=lambda name, token: None),
        peers_now=lambda: dict(there),
        others_in=lambda queue: False,
    )
    running = VirtualIp("web", VIP, context, NoAnnouncer())
    running._record.note(pair(1, *others))
    now = now_s()
    running.holding.hold = Hold(1, VIP.timing(), now + 2.2, now + 1.0, now)
    return running, there


def pair(token: int, *peers: str) -> KeyValue:
    record = Holder(
        instance="a",
        address=VIP.ip,
        token=token,
        lease=token,
        place=VIP.place,
        state="held",
        since="",
        window_s=2.2,
        promise_s=3.0,
        host="A",
        peers=list(peers),
        machines=machines("a", *peers),
    )
    return KeyValue(b"/weldr/holders/web", msgspec.json.encode(record), 1, 1)


def written_by(put: Put | None) -> Holder:
    assert put is not None
    return msgspec.json.decode(put.value, type=Holder)


def peers_in(put: Put | None) -> list[str]:
    return written_by(put).peers


async def test_promises_given_before_a_newcomer_is_named_count_no_longer() -> None:
    running, there = holder("b")
    hold = running.holding.hold
    assert hold is not None
    asked_s = now_s()
    hold.promise(asked_s)
    assert hold.window_end_s == asked_s + 3.0 * 0.99
    written = []

    async def confirm(compares: object, operations: list[Put]) -> None:
        written.append(peers_in(operations[0]))

    running._confirm = confirm  # type: ignore[method-assign, assignment]
    there["d"] = "D"
    await running._keep_record()
    assert written == [["b", "d"]]
    hold.promise(asked_s)
    assert hold.window_end_s == hold.confirmed_s + 2.2
    # By now d is asked, too.
    assert running._record.peers_to_ask == {"b", "d"}
    hold.promise(later_s := now_s())
    assert hold.window_end_s == later_s + 3.0 * 0.99
    await running._keep_record()
    assert hold.window_end_s == later_s + 3.0 * 0.99


async def test_promises_given_before_another_machine_had_a_peers_name_count_no_longer() -> None:
    """It is another instance, which has promised nothing."""
    running, there = holder("b", "c")
    hold, record = running.holding.hold, running._record
    assert hold is not None
    assert record.kept() is None
    asked_s = now_s()
    hold.promise(asked_s)
    written: list[Holder] = []

    async def confirm(compares: object, operations: list[Put]) -> None:
        written.append(written_by(operations[0]))

    running._confirm = confirm  # type: ignore[method-assign, assignment]
    there["b"] = "X"
    await running._keep_record()
    [kept] = written
    assert kept.peers == ["b", "c"]
    assert kept.machines == {"a": "A", "b": "X", "c": "C"}
    hold.promise(asked_s)
    assert hold.promised_until_s == float("-inf")
    assert hold.window_end_s == hold.confirmed_s + 2.2
    hold.promise(later_s := now_s())
    assert hold.window_end_s == later_s + 3.0 * 0.99
    # Once it is read, it stays as it is.
    record.note(KeyValue(record.key, msgspec.json.encode(kept), 1, 2))
    await running._keep_record()
    assert len(written) == 1
    assert record.named == {("b", "X"), ("c", "C")}


def test_a_claim_names_the_machine_of_each_peer_and_its_own() -> None:
    running, there = holder("b", "c")
    there["b"] = "X"
    claimed = written_by(running._record.claimed(5, 5, held=False))
    assert claimed.machines == {"a": "A", "b": "X", "c": "C"}
    assert {("b", "B"), ("b", "X"), ("c", "C")} == running._record.named
    assert running._record.peers_to_ask == {"b", "c"}


def test_all_that_any_unanswered_write_may_have_named_are_asked() -> None:
    running, there = holder("b")
    there["d"] = "D"
    assert peers_in(running._record.kept()) == ["b", "d"]
    there["c"] = there.pop("d")
    assert peers_in(running._record.kept()) == ["b", "c"]
    assert running._record.peers_to_ask == {"b", "c", "d"}


def test_who_holds_by_promises_claims_anew_with_those_alone_that_were_asked() -> None:
    running, there = holder("b", "c")
    there["d"] = there.pop("c")
    assert peers_in(running._record.claimed(5, 5, held=True)) == ["b"]
    assert running._record.peers_to_ask == {"b", "c"}
    assert peers_in(running._record.claimed(5, 5, held=False)) == ["b", "d"]
    assert running._record.peers_to_ask == {"b", "c", "d"}


async def test_a_manager_that_takes_over_asks_whom_the_record_names_before_it_has_read_it() -> None:
    running, there = holder("b", "c")
    running._seat._candidate.adopt(1, 3, 1)
    del there["c"]

    async def lose(compares: object, operations: object) -> None:
        """Whether it was written is not known."""

    running._confirm = lose  # type: ignore[method-assign, assignment]
    await running._keep_record()
    handed = running.hand_on()
    assert handed is not None
    after = VirtualIp("web", VIP, running._context, NoAnnouncer())
    after.adopt(handed)
    assert after._record.peers_to_ask == {"b", "c"}
    after._record.note(pair(1, "b", "c"))
    assert after._record.peers_to_ask == {"b", "c"}
    after._record.note(dataclasses.replace(pair(1, "b"), mod_revision=2))
    assert after._record.peers_to_ask == {"b"}


async def test_promises_of_too_few_count_for_no_claim_that_follows() -> None:
    running, _ = holder("b")
    hold = running.holding.hold
    assert hold is not None
    running.holding.forget_promises()
    asked_s = hold.asked_too_few_s
    confirmation: Any = SimpleNamespace(sent_s=now_s(), token=1)
    running.holding.acquire(confirmation)
    after = running.holding.hold
    assert after is not None
    assert after is not hold
    after.promise(asked_s)
    assert after.promised_until_s == float("-inf")


async def test_a_claim_whose_answer_was_lost_is_made_again_while_promises_last() -> None:
    running, _ = holder("b")
    running._context.peers = SimpleNamespace(  # type: ignore[assignment]
        refused_by=lambda name, token: set(), name_is_taken=False
    )
    running._context.boot_s = 0.0
    running._context.on_change = lambda: None
    running._context.useless = lambda vip: None
    running._placement.elsewhere = lambda hold: ""  # type: ignore[method-assign]
    asked: list[int] = []

    async def confirm(compares: object, operations: list[Put]) -> Any:
        asked.append(len(operations))
        running._record.note(dataclasses.replace(pair(5, "b"), mod_revision=1 + len(asked)))
        return SimpleNamespace(held=True, leads=True, sent_s=now_s(), token=5, queue=())

    running._seat.confirm = confirm  # type: ignore[method-assign, assignment]
    running._seat._candidate.adopt(5, 3, 5)
    await running._turn()
    assert asked == [0, 1]
    assert running.holding.hold is not None
    assert running.holding.hold.token == 5


async def test_no_promise_counts_while_the_record_may_name_nobody() -> None:
    running, there = holder("b")
    hold = running.holding.hold
    assert hold is not None
    hold.promise(now_s())
    there.clear()

    async def lose(compares: object, operations: object) -> None:
        """Whether it was written is not known."""

    running._confirm = lose  # type: ignore[method-assign, assignment]
    await running._keep_record()
    assert hold.promised_until_s == float("-inf")
    asked = Round(1, now_s(), hold.token, set(running._record.peers_to_ask))
    assert not asked.note("b", "")


@pytest.mark.parametrize(("on_etcd_loss", "asks"), [("peers", True), ("release", False)])
async def test_without_etcd_promises_are_asked_for_where_the_key_says_so(
    on_etcd_loss: Literal["peers", "release"], asks: bool
) -> None:
    running, _ = holder("b")
    asked: list[frozenset[str]] = []
    running._context.peers = SimpleNamespace(  # type: ignore[assignment]
        ask_for_promises=lambda name, token, for_s, peers, on_all: asked.append(peers)
    )
    vip = msgspec.structs.replace(VIP, on_etcd_loss=on_etcd_loss)
    after = VirtualIp("web", vip, running._context, NoAnnouncer())
    after._record.note(pair(1, "b"))
    now = now_s()
    after.holding.hold = Hold(1, vip.timing(), now + 2.2, now + 2.0, now - vip.timing().ask_after_s)
    after.holding._look_after()
    assert asked == ([{"b"}] if asks else [])


async def test_a_peer_by_name_alone_asks_as_a_newcomer_does() -> None:
    """The holder's peer is the other instance of that name."""
    running, _ = holder("b")
    record = running._record.holder
    assert record is not None
    running._record.holder = msgspec.structs.replace(record, instance="c", host="C", peers=["a", "b"])
    running._context.boot_s = now_s() - 100.0
    running.holding.hold = None
    asked: list[tuple[str, ...]] = []
    for taken, verdict in ((False, Claim), (True, AskPeers)):
        running._context.peers = SimpleNamespace(  # type: ignore[assignment]
            refused_by=lambda name, token: set(),
            ask_for_refusal=lambda name, token, names: asked.append(names),
            name_is_taken=taken,
        )
        assert isinstance(running._judge.judge_silent(), verdict)
    assert asked == [("a", "b", "c")]


def test_a_promise_of_another_machine_that_has_a_peers_name_is_none() -> None:
    running, _ = holder("b")
    view = running._context.view
    view.peers["b"] = Peer(address="10.0.0.2:8688", boot="2", machine="X")
    assert running._record.peers_to_ask == {NOBODY}
    view.peers["b"] = Peer(address="10.0.0.2:8688", boot="2", machine="B")
    assert running._record.peers_to_ask == {"b"}
    # One of an older version tells of no machine.
    view.peers["b"] = Peer(address="10.0.0.2:8688", boot="2")
    assert running._record.peers_to_ask == {"b"}


def test_whom_a_restored_etcd_says_to_hold_gives_nothing_up() -> None:
    """Another one may have claimed it since, and lives by promises: nobody is to read that it is free."""
    running, _ = holder("b")
    running.holding.hold, running.holding.last_held = None, 1
    assert running._owes_release()
    running._context.view.restored_revision = 1
    assert not running._owes_release()
    running._record.note(dataclasses.replace(pair(1, "b"), mod_revision=2))
    assert running._owes_release()


async def test_an_address_that_lapses_tells_whose_promise_was_missing() -> None:
    running, _ = holder("b", "c")
    now, told = now_s(), []
    rounds = [Round(number, now, 1, {"b", "c"}) for number in (1, 2)]
    asked = iter(rounds)
    running._context.peers = SimpleNamespace(  # type: ignore[assignment]
        ask_for_promises=lambda name, token, for_s, peers, on_all: next(asked)
    )
    running.holding._on_loss = told.append
    hold = running.holding.hold
    assert hold is not None
    for _ in rounds:
        hold.confirmed_s, hold.asked_s, hold.expires_s = now - 1.0, now - 1.0, now + 1.0
        running.holding._look_after()
    rounds[0].note("b", "")
    hold.expires_s = now - 1.0
    running._context.transitions = Counter()
    running.holding._look_after()
    assert told == ["neither etcd nor every peer confirmed it in time: no word of c"]
    assert running.holding._unanswered is None, "what comes next is another hold"
