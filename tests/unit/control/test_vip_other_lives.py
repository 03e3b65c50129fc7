"""What another manager of this instance, or another etcd, has done is not known here, and must not be taken for
what is."""

from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import ADDRESS, NoEtcd, Site, holder
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.hold import Hold
from weldr.control.vip.holding import Holding
from weldr.control.vip.rules import NOBODY
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.etcd.clock import now_s
from weldr.etcd.election import CandidacyLostError
from weldr.etcd.follow import Snapshot
from weldr.model.events import KeyValue
from weldr.model.keys import KeySpace
from weldr.model.takeover import Candidacy, HeldAddress, VipsState, Word
from weldr.model.vip_timing import KERNEL_LATENESS_S
from weldr.model.vips import Vip

VIP = Vip(address=ADDRESS, announce="none")


def made() -> VirtualIps:
    client: Any = NoEtcd()
    return VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)


def record(token: int, *, by: str = "a", revision: int = 5) -> KeyValue:
    return KeyValue(b"/weldr/holders/web", msgspec.json.encode(holder(by, token=token)), revision, revision)


WISH = KeyValue(b"/weldr/vips/web", b'{"address": "10.0.0.100"}', 2, 2)


def candidate(token: int) -> KeyValue:
    return KeyValue(b"/weldr/elections/web/7", b"b", token, token)


async def test_what_a_dead_manager_may_have_left_here_is_waited_for_before_the_lease_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever finds the lease gone takes the address for gone, too."""
    closed: list[float] = []
    virtual_ips = made()
    candidacy = Candidacy(vip="web", value=VIP, lease=3, ttl_s=3, token=3)
    died_s = now_s()
    await virtual_ips.inherit([candidacy], None)
    running = virtual_ips._running["web"][1]

    async def close(timeout_s: float) -> None:
        closed.append(now_s())

    monkeypatch.setattr(running._seat, "close", close)
    assert virtual_ips.answers.uses("web", 2)
    await virtual_ips.stop("the end")
    assert closed[0] > died_s + VIP.timing().lifetime_s + KERNEL_LATENESS_S


def test_who_takes_back_what_another_manager_had_does_not_know_whom_the_record_names() -> None:
    site = Site()
    running = VirtualIp("web", VIP, site.context, NoAnnouncer())
    running._record.note(record(3))
    assert running._record.peers_to_ask == {"b", "c"}
    running.take_back()
    assert NOBODY in running._record.peers_to_ask
    assert running.holding.left_behind_until_s > now_s() + 2.0
    running._record.note(record(3))
    assert running._record.peers_to_ask == {"b", "c"}


async def test_a_manager_that_knows_of_a_restored_etcd_forgets_the_tokens_of_one_that_did_not() -> None:
    virtual_ips = made()
    # Until then the old one has our name in etcd.
    virtual_ips._forget_life()
    virtual_ips._view.restored_s = now_s()
    virtual_ips._forget_life()
    words = [Word(vip="web", until_s=0.0, refused_token=0, known_token=1000, promised_token=0, past_token=0)]
    try:
        await virtual_ips.adopt(VipsState(vips=[], words=words, boot_s=now_s() - 100.0), None)
        assert virtual_ips._book.promise("web", 7, 3.0, now_s() + 10.0, busy=False) is None
    finally:
        await virtual_ips.stop("the end")


def test_a_token_of_the_past_is_not_that_of_another_instance() -> None:
    site = Site()
    running = VirtualIp("web", VIP, site.context, NoAnnouncer())
    running.holding.last_held = 7
    running._record.note(record(7, by="b"))
    assert not running._owes_release()
    running._record.note(record(7, by="a"))
    assert running._owes_release()


def test_what_was_seen_of_tokens_is_forgotten_when_etcd_is_another_one() -> None:
    virtual_ips = made()
    running = virtual_ips._make("web", VIP)
    running._judge._unseated_token = 7
    running._judge._first_gone_s = (7, 1.0)
    running._silence._believed_token = 7
    virtual_ips._peers._refusals["web", 7] = {"b"}
    virtual_ips.take([Snapshot(8, (WISH, candidate(7)), "start")])
    virtual_ips.take([Snapshot(9, (WISH,), "restored")])
    assert virtual_ips._peers.refused_by("web", 7) == set()
    assert virtual_ips._view.gone_since_s("web", 7) is None
    assert (running._judge._unseated_token, running._judge._first_gone_s[0]) == (0, 0)
    assert running._silence._believed_token == 0


async def test_whose_candidacy_is_lost_is_busy_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    running = VirtualIp("web", VIP, site.context, NoAnnouncer())

    async def confirm(*arguments: object, **named: object) -> None:
        raise CandidacyLostError("its lease ended")

    monkeypatch.setattr(running._seat._candidate, "confirm", confirm)
    running._seat.busy = True
    with pytest.raises(CandidacyLostError):
        await running._seat.confirm()
    assert not running.busy


async def test_an_address_that_lapsed_on_the_way_to_a_new_manager_is_given_up() -> None:
    lost: list[str] = []
    context: Any = Site().context
    holding = Holding("web", VIP, context, NoAnnouncer(), frozenset, lost.append, lambda: None)
    now = now_s()
    held = HeldAddress(token=3, window_end_s=now + 1.0, expires_s=now - 0.1, confirmed_s=now - 1.3)
    holding.adopt(held, 3)
    assert holding.hold is None
    assert lost == ["it lapsed while one manager took the place of another"]


async def test_nobody_is_told_that_an_address_is_free_which_may_be_here() -> None:
    site = Site()
    running = VirtualIp("web", VIP, site.context, NoAnnouncer())
    running.holding.last_held = 7
    running._record.note(record(7, by="a"))
    running.holding.note_left_behind(now_s() + 60.0)
    assert not running._owes_release()
    running.holding.hold = Hold(7, VIP.timing(), now_s(), now_s(), now_s())
    running.holding.take_down("it is to move", in_order=True)
    assert running._owes_release(), "it was here, and was removed"


def test_what_a_manager_does_not_know_of_its_record_the_next_one_does_not_either() -> None:
    site = Site()
    before, after = (VirtualIp("web", VIP, site.context, NoAnnouncer()) for _ in range(2))
    before._record.note(record(3))
    before.take_back()
    revision, unsure = before._record.unsure
    after._record.adopt_unsure(revision, sorted(unsure))
    after._record.note(record(3))
    assert after._record.peers_to_ask == {"b", "c"}
    after._record.adopt_unsure(revision, sorted(unsure))
    assert NOBODY in after._record.peers_to_ask


class Lost(NoAnnouncer):
    def adopt(self, token: int, *, placed: bool) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")


async def test_an_address_that_a_new_manager_does_not_find_may_be_here_for_its_window() -> None:
    context: Any = Site().context
    holding = Holding("web", VIP, context, Lost(), frozenset, lambda why: None, lambda: None)
    now = now_s()
    held = HeldAddress(token=3, window_end_s=now + 2.0, expires_s=now + 0.9, confirmed_s=now)
    holding.adopt(held, 3)
    assert holding.hold is None
    assert (holding.last_held, holding.left_behind_until_s) == (0, held.window_end_s)


def test_what_may_have_been_left_here_is_handed_on() -> None:
    site = Site()
    before, after = (VirtualIp("web", VIP, site.context, NoAnnouncer()) for _ in range(2))
    before._seat._candidate.adopt(3, 3, 3)
    before.holding.note_left_behind(now_s() + 60.0)
    handed = before.hand_on()
    assert handed is not None
    after.adopt(handed)
    assert after.holding.left_behind_until_s == before.holding.left_behind_until_s
