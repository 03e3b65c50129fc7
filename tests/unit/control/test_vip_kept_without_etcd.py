"""While etcd is away nobody could claim an address: whoever holds it gives it to nobody."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.control.vip_site import ADDRESS, Clock, NoEtcd, Site, holder, queue
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip import context as context_module
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.hold import Hold
from weldr.control.vip.machine import State
from weldr.control.vip.record import Record
from weldr.control.vip.view import View
from weldr.etcd.clock import now_s
from weldr.etcd.errors import EtcdUnavailableError
from weldr.model.vips import Move, Vip

VIP = Vip(address=ADDRESS, hold_down_s=1.0)


def another_holds_fewer(site: Site, clock: Clock) -> None:
    site.held("a", "web", "v2", "v3")
    site.context.note_queue("web", queue("a", "b"), clock.now_s - 60.0)


def it_is_to_move(site: Site, clock: Clock) -> None:
    site.held("a", "web")
    site.view.moves["web"] = Move(token=1, to="b")


def its_check_fails(site: Site, clock: Clock) -> None:
    site.held("a", "web")
    site.context.useless = lambda vip: "its check failed: no"


WAYS = [another_holds_fewer, it_is_to_move, its_check_fails]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(context_module, "now_s", made)
    return made


def holding(site: Site, monkeypatch: pytest.MonkeyPatch) -> VirtualIp:
    """Instance a holds it, and b stands, too."""
    monkeypatch.setattr(View, "queue", lambda self, vip: tuple(queue("a", "b")))
    running = VirtualIp("web", VIP, site.context, NoAnnouncer())
    now = now_s()
    running.state = State.ANNOUNCING
    running._seat._candidate.adopt(1, 3, 1)
    running._record.holder = holder("a")
    running.holding.hold = Hold(1, VIP.timing(), now + 60.0, now + 60.0, now)
    return running


@pytest.mark.parametrize("way", WAYS)
async def test_it_stays_where_it_is(
    way: Callable[[Site, Clock], None], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    client: Any = NoEtcd()
    site.context.client = client
    way(site, clock)
    running = holding(site, monkeypatch)
    for _ in range(3):
        with pytest.raises(EtcdUnavailableError):
            await running._turn()
        clock.now_s += 10.0
    assert running.holding.hold is not None
    assert running.state is State.ANNOUNCING


@pytest.mark.parametrize("way", WAYS)
async def test_it_goes_once_etcd_answers(
    way: Callable[[Site, Clock], None], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site()
    way(site, clock)
    running = holding(site, monkeypatch)

    async def confirm(compares: object, operations: object) -> Any:
        return SimpleNamespace(held=True, leads=True, sent_s=now_s(), token=1, queue=tuple(queue("a", "b")))

    async def withdraw(compares: object, operations: object) -> None:
        running._seat._candidate.token = None

    monkeypatch.setattr(running._seat, "confirm", confirm)
    monkeypatch.setattr(running._seat, "withdraw", withdraw)
    monkeypatch.setattr(Record, "given_up", lambda self, reason: None)
    await running._turn()
    assert running.holding.hold is None
    assert running.state is State.RELEASING


async def test_who_could_not_hold_it_says_so_no_longer_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site()
    running = VirtualIp("web", VIP, site.context, NoAnnouncer())
    running.state, running._reason = State.FAULT, "no carrier"
    running._seat._candidate.adopt(2, 3, 2)

    async def confirm(compares: object, operations: object) -> Any:
        return SimpleNamespace(held=True, leads=False, sent_s=now_s(), token=2, queue=tuple(queue("b", "a")))

    monkeypatch.setattr(running._seat, "confirm", confirm)
    await running._turn()
    assert running.describe().state == "following"
    assert running.describe().reason == "this host can hold it again"
