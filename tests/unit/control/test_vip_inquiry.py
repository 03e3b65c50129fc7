"""Who has just arrived asks all others before it claims by a record that is older than itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import ADDRESS, Clock, Site, holder
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip import judge as judge_module
from weldr.control.vip import peers as peers_module
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.inquiry import PATIENCE_S, Inquiry, Life
from weldr.control.vip.judge import Judge
from weldr.control.vip.messages import (
    Body,
    BoundAnswer,
    BoundQuestion,
    RefusalAnswer,
    RefusalQuestion,
)
from weldr.control.vip.record import Record
from weldr.control.vip.rules import AskPeers, Claim, Wait
from weldr.control.vip.view import View, WantedVip
from weldr.etcd.follow import Snapshot
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, Vip

B, C = Life("b", "1"), Life("c", "1")
BOTH = (B, C)

# --- what is known of the others


def inquiry(**answers: float) -> Inquiry:
    """These have answered."""
    made = Inquiry()
    for name, until_s in answers.items():
        made.note(Life(name, "1"), until_s)
    return made


def test_nothing_speaks_against_a_claim_once_all_have_said_that_they_are_not_bound() -> None:
    asked = inquiry(b=0.0)
    assert asked.wait_until_s(BOTH, 100.0) > 100.0
    asked.note(C, 0.0)
    assert asked.wait_until_s(BOTH, 100.0) == 0.0
    assert asked.to_ask(BOTH, 100.0) == set()
    assert inquiry().wait_until_s((), 100.0) == 0.0, "there is nobody else"


def test_who_is_bound_is_waited_for_and_asked_again_then() -> None:
    asked = inquiry(b=0.0, c=105.0)
    assert asked.wait_until_s(BOTH, 100.0) == 105.0
    assert asked.wait_until_s(BOTH, 104.9) == 105.0
    assert asked.wait_until_s(BOTH, 105.0) > 105.0, "it has to say that it no longer is"
    assert asked.to_ask(BOTH, 105.0) == {"c"}
    asked.note(C, 108.0)
    assert asked.wait_until_s(BOTH, 105.1) == 108.0
    assert asked.wait_until_s(BOTH, 108.0) > 108.0
    asked.note(C, 0.0)
    assert asked.wait_until_s(BOTH, 108.1) == 0.0


def test_who_is_bound_is_asked_meanwhile_and_may_be_free_sooner() -> None:
    asked = inquiry(b=0.0, c=105.0)
    assert asked.to_ask(BOTH, 101.0) == {"c"}
    asked.note(C, 0.0)
    assert asked.wait_until_s(BOTH, 101.1) == 0.0


def test_who_is_bound_counts_although_etcd_lists_it_no_more() -> None:
    assert inquiry(b=0.0, c=105.0).wait_until_s((B,), 101.0) == 105.0


def test_a_silent_one_is_waited_for_as_long_as_patience_lasts_and_asked_on() -> None:
    asked = inquiry(b=0.0)
    assert 100.0 < asked.wait_until_s(BOTH, 100.0) < 100.0 + PATIENCE_S
    assert asked.wait_until_s(BOTH, 99.99 + PATIENCE_S) > 100.0
    assert asked.wait_until_s(BOTH, 100.0 + PATIENCE_S) == 0.0
    assert asked.to_ask(BOTH, 100.0 + PATIENCE_S) == {"c"}


def test_one_that_was_bound_and_is_silent_since_is_waited_for_as_any_other() -> None:
    asked = inquiry(b=0.0, c=105.0)
    assert asked.wait_until_s(BOTH, 105.0) > 105.0
    assert asked.wait_until_s(BOTH, 104.99 + PATIENCE_S) > 105.0
    assert asked.wait_until_s(BOTH, 105.0 + PATIENCE_S) == 0.0


def test_nobody_is_asked_more_often_than_ten_times_a_second() -> None:
    asked = inquiry()
    assert asked.to_ask(BOTH, 100.0) == {"b", "c"}
    assert asked.to_ask(BOTH, 100.09) == set()
    asked.note(B, 0.0)
    assert asked.to_ask(BOTH, 100.11) == {"c"}


def test_one_that_is_listed_later_is_asked_and_waited_for_as_long_as_any_other() -> None:
    asked = inquiry(b=0.0)
    assert asked.wait_until_s((B,), 100.0) == 0.0
    assert asked.wait_until_s(BOTH, 160.0) > 160.0
    assert asked.to_ask(BOTH, 160.0) == {"c"}
    assert asked.wait_until_s(BOTH, 160.0 + PATIENCE_S) == 0.0


def test_who_was_started_anew_or_left_out_meanwhile_is_asked_anew() -> None:
    asked = inquiry(b=0.0, c=0.0)
    again = (B, Life("c", "2"))
    assert asked.wait_until_s(again, 100.0) > 100.0
    assert asked.to_ask(again, 100.0) == {"c"}
    asked.note(again[1], 0.0)
    assert asked.wait_until_s(again, 100.0) == 0.0
    assert asked.wait_until_s((B,), 101.0) == 0.0
    assert asked.wait_until_s(again, 102.0) > 102.0


# --- who asks


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(judge_module, "now_s", made)
    monkeypatch.setattr(peers_module, "now_s", made)
    return made


class Newcomer(Site):
    """The instance a, which found etcd at revision 10 and leads the queue for `web`."""

    def __init__(self, record: Holder | None, revision: int, *, held: bool = False) -> None:
        super().__init__("a")
        self.sent: list[tuple[str, Body]] = []
        self.woken = 0
        self.view.began_revision = 10
        self.peers._send = lambda name, body: self.sent.append((name, body))  # type: ignore[method-assign]
        read = Record("web", Vip(address=ADDRESS), self.context)
        read.holder, read.revision = record, revision
        seat: Any = SimpleNamespace(record=read, token=9, is_mine=lambda contender: contender.token == 9)
        self.judge = Judge("web", Vip(address=ADDRESS), self.context, seat, lambda: held, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def asked(self) -> dict[str, BoundQuestion]:
        """Whom it has asked since this was last called."""
        found = {name: body for name, body in self.sent if isinstance(body, BoundQuestion)}
        self.sent.clear()
        return found


RELEASED = msgspec.structs.replace(holder("b", token=3), state="released")


@pytest.mark.parametrize(("record", "revision"), [(None, 0), (RELEASED, 10)], ids=["none", "of the past"])
async def test_who_has_just_arrived_claims_once_all_others_say_that_they_are_not_bound(
    clock: Clock, record: Holder | None, revision: int
) -> None:
    site = Newcomer(record, revision)
    verdict = await site.judge.judge()
    assert isinstance(verdict, Wait)
    assert verdict.until_s <= clock.now_s + 0.1
    asked = site.asked()
    assert asked.keys() == {"b", "c"}
    known = record.token if record is not None else 0
    assert {(question.vip, question.token) for question in asked.values()} == {("web", known)}
    site.peers._take("b", BoundAnswer(asked["b"].number, "web", 0.0))
    assert site.woken == 1
    assert isinstance(await site.judge.judge(), Wait)
    site.peers._take("c", BoundAnswer(asked["c"].number, "web", 0.0))
    assert site.woken == 2
    assert await site.judge.judge() == Claim()


async def test_it_waits_for_as_long_as_any_other_is_bound_by_the_slower_clock_and_asks_that_one_again(
    clock: Clock,
) -> None:
    site = Newcomer(None, 0)
    await site.judge.judge()
    asked = site.asked()
    site.peers._take("b", BoundAnswer(asked["b"].number, "web", 0.0))
    site.peers._take("c", BoundAnswer(asked["c"].number, "web", 2.0))
    verdict = await site.judge.judge()
    assert isinstance(verdict, Wait)
    assert verdict.until_s == clock.now_s + wait_s(2.0)
    clock.now_s = verdict.until_s
    assert isinstance(await site.judge.judge(), Wait)
    asked = site.asked()
    assert asked.keys() == {"c"}
    site.peers._take("c", BoundAnswer(asked["c"].number, "web", 0.0))
    assert await site.judge.judge() == Claim()


async def test_one_that_is_dead_holds_nobody_up_for_long(clock: Clock) -> None:
    site = Newcomer(None, 0)
    assert isinstance(await site.judge.judge(), Wait)
    clock.now_s += PATIENCE_S
    assert await site.judge.judge() == Claim()


OWN = holder("a", token=3)


@pytest.mark.parametrize(
    ("record", "revision", "held"),
    [
        (RELEASED, 11, False),
        (msgspec.structs.replace(OWN, token=9), 10, False),
        (RELEASED, 10, True),
    ],
    ids=["of this life", "of its own candidacy", "held here"],
)
async def test_nobody_is_asked_about_a_record_that_is(
    clock: Clock, record: Holder, revision: int, held: bool
) -> None:
    site = Newcomer(record, revision, held=held)
    assert await site.judge.judge() == Claim()
    assert site.asked() == {}


@pytest.mark.parametrize(
    "record",
    [
        msgspec.structs.replace(OWN, state="released", host="X", machines={"a": "another machine"}),
        msgspec.structs.replace(RELEASED, host="a"),
        OWN,
    ],
    ids=["a namesake on another machine", "another instance on this host", "an earlier life on this host"],
)
async def test_others_are_asked_about_what_was_held_by(clock: Clock, record: Holder) -> None:
    site = Newcomer(record, 10)
    assert isinstance(await site.judge.judge(), Wait)
    assert site.asked().keys() == {"b", "c"}


async def test_nobody_is_asked_about_a_key_that_is_younger_than_the_instance(clock: Clock) -> None:
    site = Newcomer(None, 0)
    site.view.vips["web"] = WantedVip(Vip(address=ADDRESS), 11, created=11)
    assert await site.judge.judge() == Claim()
    assert site.asked() == {}
    site.view.vips["web"] = WantedVip(Vip(address=ADDRESS), 11, created=10)
    assert isinstance(await site.judge.judge(), Wait)


async def test_who_follows_asks_long_before_and_need_not_wait_when_it_leads(clock: Clock) -> None:
    site = Newcomer(RELEASED, 10)
    assert isinstance(site.judge.inquire(), Wait)
    for name, question in site.asked().items():
        site.peers._take(name, BoundAnswer(question.number, "web", 0.0))
    assert site.judge.inquire() is None
    assert await site.judge.judge() == Claim()
    assert site.asked() == {}


async def test_every_turn_of_one_that_follows_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site("a")
    running = VirtualIp("web", Vip(address=ADDRESS), site.context, NoAnnouncer())
    asked: list[int] = []

    async def listen(confirmation: object) -> float:
        return 0.75

    monkeypatch.setattr(running._silence, "listen", listen)
    monkeypatch.setattr(running._judge, "inquire", lambda: asked.append(1))
    confirmation: Any = None
    assert await running._follow(confirmation) == 0.75
    assert asked == [1]


async def test_one_peers_refusal_of_the_holder_is_not_enough_where_others_are_not_asked_yet(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lease_is_gone(*arguments: object, **named: object) -> bool:
        return True

    monkeypatch.setattr(judge_module, "lease_is_gone", lease_is_gone)
    site = Newcomer(msgspec.structs.replace(holder("b", token=3), peers=["c"]), 10)
    assert isinstance(await site.judge.judge(), AskPeers)
    refusals = [name for name, body in site.sent if isinstance(body, RefusalQuestion)]
    assert refusals == ["b", "c"]
    site.sent.clear()
    site.peers._take("c", RefusalAnswer(1, "web", 3, refused=True))
    assert isinstance(await site.judge.judge(), Wait)
    assert site.asked().keys() == {"b", "c"}


@pytest.mark.parametrize(("revision", "handed_over"), [(10, False), (11, True)], ids=["of the past", "seen"])
def test_only_a_release_that_it_has_seen_is_taken_for_a_handover(
    clock: Clock, revision: int, handed_over: bool
) -> None:
    site = Newcomer(None, 0)
    stands = KeyValue(b"/weldr/elections/web/9", b"a", 9, 9)
    record = KeyValue(b"/weldr/holders/web", msgspec.json.encode(RELEASED), 3, revision)
    site.view.fold([Revision(11, (Event(stands), Event(record)))], 0.0)
    assert [each.token for each in site.view.queue("web")] == [9]
    assert site.judge.is_handed_over() is handed_over


@pytest.mark.parametrize(
    ("record", "revision", "past"),
    [(RELEASED, 10, True), (RELEASED, 11, False), (OWN, 10, False), (None, 0, True)],
    ids=["of another host", "written since", "its own", "none"],
)
def test_another_one_of_its_name_may_hold_by_a_record_that_is(
    record: Holder | None, revision: int, past: bool
) -> None:
    assert Newcomer(record, revision).judge.may_have_a_namesake is past


class Probed(NoAnnouncer):
    """Of an address that another host answers for."""

    probes = 0

    async def conflict(self) -> str | None:
        self.probes += 1
        return "another host answers for it"


@pytest.mark.parametrize(("revision", "probes"), [(10, 1), (11, 0)], ids=["of the past", "seen"])
async def test_the_network_is_asked_before_a_claim_by_a_record_that_is(revision: int, probes: int) -> None:
    """As another host may have the address by an etcd of which this one is an older copy."""
    site, announcer = Site("a"), Probed()
    site.view.began_revision = 10
    site.view.held["web"] = ADDRESS
    running = VirtualIp("web", Vip(address=ADDRESS, on_conflict="report"), site.context, announcer)
    running._record.note(KeyValue(b"/weldr/holders/web", msgspec.json.encode(RELEASED), 3, revision))
    await running._claim()
    assert announcer.probes == probes
    assert (running.holding.problem == "another host answers for it: not claimed") is bool(probes)


def test_what_was_found_first_is_told_from_what_was_written_since() -> None:
    view = View(KeySpace())
    assert view.began_revision is None
    view.fold([Snapshot(7, (), "start")], 0.0)
    view.fold([Snapshot(9, (), "unwatched")], 1.0)
    assert view.began_revision == 7
    view.fold([Snapshot(3, (), "restored")], 2.0)
    assert view.began_revision == 3
