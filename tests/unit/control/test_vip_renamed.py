"""An address under another key: nobody takes it while a host may still have it by the election of the first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from weldr.control.vip.judge import Judge
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.rules import Claim, Wait
from weldr.control.vip.view import View
from weldr.etcd.clock import now_s
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
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
    """An instance on another host, which leads the election of `vips/b`."""

    def __init__(self, vip: Vip, record: Holder, *, candidate: bool = True) -> None:
        self.view = View(KeySpace())
        self.book = PromiseBook(now_s() - 1000.0)
        fold(self.view, put("vips/a", b'{"address":"10.0.0.100"}', 2))
        if candidate:
            fold(self.view, put(OWN, b"h1", 3))
        fold(self.view, put("holders/a", msgspec.json.encode(record), 4))
        context: Any = SimpleNamespace(
            view=self.view,
            book=self.book,
            host="H2",
            me="h2",
            boot_s=now_s() - 1000.0,
            peers=SimpleNamespace(refused_by=lambda vip, token: set(), name_is_taken=False),
        )
        seat: Any = SimpleNamespace(record=SimpleNamespace(holder=None, released_token=0))
        self.judge = Judge("b", vip, context, seat, lambda: False)


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
    )
    return msgspec.structs.replace(record, **changes)


B = Vip(address=ADDRESS)


def test_it_waits_for_the_holder_to_leave_and_then_for_all_that_it_may_still_rely_on() -> None:
    asked = Asked(B, held())
    fold(asked.view, gone("vips/a", 5))
    verdict = asked.judge.judge_silent()
    assert isinstance(verdict, Wait)
    assert "may still be on h1, as vips/a" in verdict.reason
    left_s = now_s()
    fold(asked.view, gone(OWN, 6), at_s=left_s)
    verdict = asked.judge.judge_silent()
    assert isinstance(verdict, Wait)
    assert verdict.until_s > left_s + 3.0
    fold(asked.view, put("settings", b"{}", 7), at_s=left_s + 1.0)
    assert asked.judge.judge_silent() == verdict


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
        (B, held(host="H2")),
        (Vip(address=ADDRESS, announce="none"), held()),
    ],
    ids=["given up", "another address", "on this host", "leadership alone"],
)
def test_it_waits_for_nobody_else(vip: Vip, record: Holder) -> None:
    assert isinstance(Asked(vip, record).judge.judge_silent(), Claim)


def test_a_holder_that_left_long_ago_holds_up_nobody() -> None:
    asked = Asked(B, held(), candidate=False)
    asked.view.unqueued = {"a": (3, now_s() - 60.0)}
    fold(asked.view, gone("vips/a", 5))
    assert isinstance(asked.judge.judge_silent(), Claim)


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
