"""An address under another key: nobody takes it while a host may still have it by the election of the first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import NoEtcd
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.hold import Hold
from weldr.control.vip.judge import Judge
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.rules import AskPeers, Claim, Wait
from weldr.control.vip.view import View
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.etcd.client import Compare
from weldr.etcd.clock import now_s
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, Vip

ADDRESS = "10.0.0.100"
OWN = "elections/a/7"


def put(key: str, value: bytes, revision: int) -> Event:
    return Event(KeyValue(f"/weldr/{key}".encode(), value, revision, revision))


def gone(key: str, revision: int) -> Event:
    return Event(KeyValue(f"/weldr/{key}".encode(), b"", 0, revision), deleted=True)


def fold(view: View, *events: Event, at_s: float | None = None) -> None:
    view.fold([Revision(event.key_value.mod_revision, (event,)) for event in events], at_s or now_s())


class Asked:
    """The instance h2, on another host than h1, which leads the election of `vips/b`."""

    def __init__(self, vip: Vip, record: Holder, *, candidate: bool = True) -> None:
        self.view = View(KeySpace())
        self.book = PromiseBook(now_s() - 1000.0)
        fold(self.view, put("vips/a", b'{"address":"10.0.0.100"}', 2))
        if candidate:
            fold(self.view, put(OWN, b"h1", 3))
        fold(self.view, put("holders/a", msgspec.json.encode(record), 4))
        self.refused: set[str] = set()
        self.asked: list[tuple[str, int, tuple[str, ...]]] = []
        peers = SimpleNamespace(
            refused_by=lambda vip, token: self.refused if (vip, token) == ("a", 3) else set(),
            ask_for_refusal=lambda vip, token, names: self.asked.append((vip, token, names)),
            name_is_taken=False,
        )
        context: Any = SimpleNamespace(
            view=self.view,
            keys=self.view.keys,
            book=self.book,
            host="H2",
            me="h2",
            machine="M2",
            boot_s=now_s() - 1000.0,
            peers=peers,
        )
        seat: Any = SimpleNamespace(record=SimpleNamespace(holder=None, released_token=0))
        self.context = context
        self.judge = Judge("b", vip, context, seat, lambda: False, lambda: None)


def held(**changes: Any) -> Holder:
    record = Holder(
        instance="h1",
        address=ADDRESS,
        token=3,
        lease=7,
        state="held",
        since="",
        window_s=2.2,
        promise_s=3.0,
        host="H1",
        peers=["h2"],
        machines={"h1": "M1", "h2": "M2"},
    )
    return msgspec.structs.replace(record, **changes)


B = Vip(address=ADDRESS)


def test_a_peer_waits_for_the_holder_to_leave_and_then_for_its_window() -> None:
    asked = Asked(B, held())
    fold(asked.view, gone("vips/a", 5))
    verdict = asked.judge.judge_silent()
    assert isinstance(verdict, Wait)
    assert "may still be on h1, as vips/a" in verdict.reason
    left_s = now_s()
    fold(asked.view, gone(OWN, 6), at_s=left_s)
    verdict = asked.judge.judge_silent()
    assert isinstance(verdict, Wait)
    assert verdict.until_s == left_s + wait_s(2.2)
    fold(asked.view, put("settings", b"{}", 7), at_s=left_s + 1.0)
    assert asked.judge.judge_silent() == verdict
    asked.view.unqueued = {"a": (3, left_s - wait_s(2.2))}
    assert isinstance(asked.judge.judge_silent(), Claim)
    # What it may have promised before it was restarted counts, too.
    asked.context.boot_s = now_s()
    verdict = asked.judge.judge_silent()
    assert isinstance(verdict, Wait)
    assert verdict.until_s == asked.context.boot_s + wait_s(3.0)


@pytest.mark.parametrize("value", [b'{"address":"10.0.0.100","announce":"none"}', b'{"address":"10.0.0.101"}'])
def test_what_the_key_says_by_now_is_not_what_the_holder_has_by_it(value: bytes) -> None:
    asked = Asked(B, held(place=B.place))
    fold(asked.view, put("vips/a", value, 5))
    assert isinstance(asked.judge.judge_silent(), Wait)


def test_what_the_key_said_before_the_record_was_written_is_what_the_holder_has_by_it() -> None:
    """Earlier versions do not write it into the record."""
    leadership = b'{"address":"10.0.0.100","announce":"none"}'
    changed = Asked(B, held())
    fold(changed.view, put("vips/a", leadership, 5))
    assert isinstance(changed.judge.judge_silent(), Wait)
    written = Asked(B, held(address="10.0.0.9"))
    fold(written.view, put("vips/a", leadership, 5), put("holders/a", msgspec.json.encode(held()), 6))
    assert isinstance(written.judge.judge_silent(), Claim)


def test_the_same_address_on_another_link_is_another_one() -> None:
    first, second = (Vip(address="fe80::1", interface=link) for link in ("eth0", "eth1"))
    record = held(address="fe80::1", place=first.place)
    assert isinstance(Asked(first, record).judge.judge_silent(), Wait)
    assert isinstance(Asked(second, record).judge.judge_silent(), Claim)
    leadership = Vip(address=ADDRESS, announce="none")
    assert isinstance(Asked(B, held(place=leadership.place)).judge.judge_silent(), Claim)


def test_who_was_no_peer_of_the_holder_asks_those_who_were() -> None:
    asked = Asked(B, held(peers=["h3"], machines={"h1": "M1", "h3": "M3"}), candidate=False)
    fold(asked.view, gone("vips/a", 5))
    asked.view.unqueued = {"a": (3, now_s() - wait_s(2.2))}
    assert isinstance(asked.judge.judge_silent(), AskPeers)
    assert asked.asked == [("a", 3, ("h1", "h3"))]
    asked.refused = {"h4"}
    assert isinstance(asked.judge.judge_silent(), AskPeers)
    asked.refused = {"h3"}
    assert isinstance(asked.judge.judge_silent(), Claim)


def test_another_instance_on_the_holders_host_waits_as_anybody() -> None:
    asked = Asked(B, held(host="H2"), candidate=False)
    fold(asked.view, gone("vips/a", 5))
    assert isinstance(asked.judge.judge_silent(), Wait)


def test_a_promise_to_the_holder_counts_for_the_address() -> None:
    asked = Asked(B, held(), candidate=False)
    fold(asked.view, gone("vips/a", 5))
    asked.book.promise("a", 3, 30.0, now_s(), busy=False)
    verdict = asked.judge.judge_silent()
    assert isinstance(verdict, Wait)
    assert verdict.until_s > now_s() + 20.0


@pytest.mark.parametrize(
    ("vip", "record"),
    [
        (B, held(state="released")),
        (B, held(address="10.0.0.101")),
        (B, held(instance="h2", host="H2")),
        (Vip(address=ADDRESS, announce="none"), held()),
    ],
    ids=["given up", "another address", "its own on this host", "leadership alone"],
)
def test_it_waits_for_nobody_else(vip: Vip, record: Holder) -> None:
    assert isinstance(Asked(vip, record).judge.judge_silent(), Claim)


def test_what_may_be_held_by_another_one_of_its_name_is_not_its_own() -> None:
    asked = Asked(B, held(instance="h2", host="H2"))
    asked.context.peers.name_is_taken = True
    assert isinstance(asked.judge.judge_silent(), Wait)


def test_a_holder_that_left_long_ago_holds_up_nobody() -> None:
    asked = Asked(B, held(), candidate=False)
    asked.view.unqueued = {"a": (3, now_s() - 60.0)}
    fold(asked.view, gone("vips/a", 5))
    assert isinstance(asked.judge.judge_silent(), Claim)


def test_a_claim_compares_what_other_keys_say_of_the_address() -> None:
    wishes = Compare.nothing_put_since(b"/weldr/vips/", 4)
    asked = Asked(B, held())
    assert asked.judge.others_unchanged() == [
        wishes,
        Compare.mod_revision(b"/weldr/holders/a", "==", 4),
    ]
    assert Asked(B, held(address="10.0.0.101")).judge.others_unchanged() == [wishes]


@pytest.fixture
async def virtual_ips(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VirtualIps]:
    """Of h2, which began long ago; h1 holds the address by `vips/a`."""
    client: Any = NoEtcd()
    made = VirtualIps(client, KeySpace(), "h2", ["[::]:80"], None, lambda: None, lambda: None)
    monkeypatch.setattr(made, "_open", open_nothing)
    made._book.began_s = now_s() - 1000.0
    take(made, put("holders/a", msgspec.json.encode(held(machines={})), 4))
    yield made
    await made.stop("the test is over")


async def open_nothing() -> bool:
    """It is there."""
    return True


def take(virtual_ips: VirtualIps, event: Event) -> None:
    virtual_ips.take([Revision(event.key_value.mod_revision, (event,))])


async def test_a_holder_by_a_key_that_is_gone_is_refused_and_gets_no_promise_when_the_key_is_back(
    virtual_ips: VirtualIps,
) -> None:
    take(virtual_ips, put("vips/other", b'{"address":"10.0.0.101","announce":"none"}', 5))
    await virtual_ips._bring_about()
    assert not virtual_ips.answers.known("a")
    assert virtual_ips._peers._promise("a", 3, 3.0) == "it knows no such virtual IP"
    assert virtual_ips._peers._refuse("a", 3)
    await virtual_ips._bring_about()
    take(virtual_ips, put("vips/a", b'{"address":"10.0.0.100","announce":"none"}', 6))
    await virtual_ips._bring_about()
    assert virtual_ips.answers.known("a")
    assert virtual_ips._peers._promise("a", 3, 3.0) == "it has refused this holder before"
    assert virtual_ips._peers._promise("a", 8, 3.0) is None


async def test_who_claims_or_holds_the_address_under_another_key_promises_nothing_for_the_old_one(
    virtual_ips: VirtualIps,
) -> None:
    """`vips/a` has got another address since, and `vips/b` this one: h1 has not heard of it."""
    wants = {"a": Vip(address="10.0.0.101"), "b": B, "c": Vip(address="10.0.0.102")}
    for revision, (name, vip) in enumerate(wants.items(), 5):
        take(virtual_ips, put(f"vips/{name}", msgspec.json.encode(vip), revision))
        running = VirtualIp(name, vip, virtual_ips._context, NoAnnouncer())
        # As if it had begun: so it can be stopped.
        running._tasks = [asyncio.create_task(asyncio.sleep(0.0))]
        virtual_ips._running[name] = (vip, running)
    refusal, ours = "it claims or holds the address itself", virtual_ips._running["b"][1]
    ours._seat.busy = True
    assert virtual_ips._peers._promise("a", 3, 3.0) == refusal
    ours._seat.busy = False
    now = now_s()
    ours.holding.hold = Hold(9, B.timing(), now + 2.2, now + 1.0, now)
    assert virtual_ips._peers._promise("a", 3, 3.0) == refusal
    assert virtual_ips.answers.held_until_s("b", but=3) == now + 2.2
    others = [virtual_ips.answers.held_until_s(name, but=3) for name in ("a", "c", "no such key")]
    assert max(*others, virtual_ips.answers.held_until_s("b", but=9)) <= 0.0
    # What holds another address is no reason.
    ours.holding.hold = None
    virtual_ips._running["c"][1]._seat.busy = True
    assert virtual_ips._peers._promise("a", 3, 3.0) is None


def test_a_key_made_anew_with_a_value_that_cannot_be_understood_has_no_last_good_one() -> None:
    view = View(KeySpace())
    fold(view, put("vips/a", b'{"address":"10.0.0.100"}', 2))
    fold(view, Event(KeyValue(b"/weldr/vips/a", b"oops", 2, 3)))
    assert view.vips["a"].kept
    fold(view, put("vips/a", b"oops", 5))
    assert view.vips == {}


def test_what_was_held_is_forgotten_with_the_key() -> None:
    view = View(KeySpace())
    fold(view, put("vips/a", b'{"address":"10.0.0.100"}', 2), put("holders/a", msgspec.json.encode(held()), 3))
    assert view.held == {"a": ADDRESS}
    fold(view, put("holders/x", msgspec.json.encode(held()), 4))
    assert view.held == {"a": ADDRESS}
