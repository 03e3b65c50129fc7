"""A manager that takes the place of another one of the same instance loses no virtual IP by it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import NoEtcd, holder
from weldr.control.announce.announcer import AnnounceError
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip import virtual_ips as virtual_ips_module
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.etcd.clock import now_s
from weldr.etcd.follow import Snapshot
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
from weldr.model.takeover import Candidacy, HandedVip, HeldAddress, PeerLife, VipsState
from weldr.model.vips import Peer, Vip


def standing(*instances: str) -> Snapshot:
    pairs = [
        KeyValue(f"/weldr/elections/web/{number:x}".encode(), name.encode(), number, number)
        for number, name in enumerate(instances, 3)
    ]
    return Snapshot(9, tuple(pairs), "start")


async def test_what_another_manager_may_have_promised_binds_the_one_that_takes_over_again() -> None:
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    virtual_ips.take([standing("a", "b")])
    now = now_s()
    handed = HandedVip(
        candidacy=Candidacy(
            vip="web", value=Vip(address="10.0.0.100", announce="none"), lease=3, ttl_s=3, token=3
        ),
        held=HeldAddress(
            token=3, window_end_s=now + 99, expires_s=now + 99, confirmed_s=now, promised_until_s=now + 99
        ),
        last_held=3,
        state="announcing",
    )
    virtual_ips._view.peers["a"] = virtual_ips._view.peers["b"] = Peer(address="127.0.0.1:9", boot="1")
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.bind(("127.0.0.1", 0))
    life = PeerLife(address="127.0.0.1:1", boot="1", sequence=1, last_sequences={})
    try:
        await virtual_ips.adopt(VipsState(vips=[handed], words=[], boot_s=now - 100, life=life), here)
        state = await virtual_ips.freeze()
        assert state.life is not None
        assert virtual_ips._book.refuse("db", 9, 3.0, now_s()) == 0.0
        taken_back_s = now_s()
        virtual_ips.take_back()
        assert virtual_ips._context.boot_s >= taken_back_s
        assert virtual_ips._book.refuse("db", 10, 3.0, now_s()) > 0.0
        assert next(virtual_ips._peers._sequence) > state.life.sequence + 1_000_000
        hold = virtual_ips._running["web"][1].holding.hold
        assert hold is not None
        assert hold.window_end_s < now_s() + 2.3
    finally:
        await virtual_ips.stop("the test is over")


async def test_what_a_manager_promised_before_it_died_binds_the_one_that_inherits() -> None:
    """The new one ran while the old one still promised. etcd may lack the key that tells of that."""
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    virtual_ips._context.boot_s = virtual_ips._book.began_s = now_s() - 100.0
    died_s = now_s()
    await virtual_ips.inherit([], None)
    assert virtual_ips._context.boot_s >= died_s
    assert virtual_ips._book.refuse("web", 9, 3.0, now_s()) > 0.0
    await virtual_ips.stop("the test is over")


async def test_an_upgrade_does_not_wait_for_what_etcd_leaves_without_an_answer() -> None:
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    await virtual_ips._one_at_a_time.acquire()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30.0) as patience:
            await virtual_ips.freeze()
    assert not patience.expired()
    assert not virtual_ips._peers._muted
    virtual_ips._one_at_a_time.release()
    await virtual_ips.freeze()
    virtual_ips.thaw()
    await virtual_ips.stop("the test is over")


async def test_an_upgrade_that_waits_for_a_command_is_no_silence_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    muted: list[bool] = []
    monkeypatch.setattr(virtual_ips._peers, "mute", lambda: muted.append(True))
    ended = asyncio.Event()
    virtual_ips._ending["web"] = ending = asyncio.create_task(_wait(ended))
    with pytest.raises(TimeoutError):
        await virtual_ips.freeze()
    assert not muted
    ended.set()
    await virtual_ips.freeze()
    assert muted
    virtual_ips.thaw()
    await ending
    virtual_ips._ending.clear()
    await virtual_ips.stop("the test is over")


async def test_an_upgrade_waits_for_a_command_that_gives_an_address_up(tmp_path: Path) -> None:
    """The new manager would run `acquire` beside it, and have the address taken away by what ends later."""
    program, began, gate = tmp_path / "move", tmp_path / "began", tmp_path / "gate"
    os.mkfifo(gate)
    program.write_text(f'#!/bin/sh\n[ "$1" = release ] || exit 0\necho > {began}\nread line < {gate}\n')
    program.chmod(0o755)
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], tmp_path, lambda: None, lambda: None)
    running = virtual_ips._make("web", Vip(address="10.0.0.100", announce="exec", command="move"))
    announcer = running.holding._announcer
    running.start()
    announcer.acquire(7, now_s() + 60.0)
    async with asyncio.timeout(60.0):
        while not announcer.placed():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        announcer.release(in_order=True)
        while not began.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await virtual_ips.freeze()
    # It is to be fetched again, once that has ended.
    announcer.acquire(8, now_s() + 60.0)
    with pytest.raises(TimeoutError):
        await virtual_ips.freeze()
    os.close(os.open(gate, os.O_WRONLY))
    async with asyncio.timeout(60.0):
        await announcer.released()
    await virtual_ips.freeze()
    virtual_ips.thaw()
    await virtual_ips.stop("the test is over")


async def test_what_others_say_is_the_new_managers_whatever_the_old_one_still_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client: Any = NoEtcd()
    old = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    await old._peers.open([("127.0.0.1", 9)])
    ended = asyncio.Event()
    slow = old._make("web", Vip(address="10.0.0.100", announce="none"))
    monkeypatch.setattr(slow, "let_go", lambda: _wait(ended))
    transport = old._peers._transport
    assert transport is not None
    leaving = asyncio.create_task(old.let_go())
    async with asyncio.timeout(10.0):
        while transport.get_extra_info("socket").fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not leaving.done()
    ended.set()
    await leaving


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.parametrize(("stands", "left_behind"), [(True, False), (False, False), (True, True)])
async def test_who_hands_on_less_than_it_holds_has_the_new_manager_refuse_nothing_for_a_while(
    stands: bool, left_behind: bool
) -> None:
    client: Any = NoEtcd()
    old, new = (
        VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None) for _ in range(2)
    )
    vip = Vip(address="10.0.0.100", announce="none", ttl_s=60, lifetime_s=30)
    running = old._make("web", vip)
    running._go.clear()
    running._parked.set()
    if stands:
        running._seat._candidate.adopt(3, 60, 3)
    confirmation: Any = SimpleNamespace(sent_s=now_s(), token=3)
    running.holding.acquire(confirmation)
    if left_behind:
        running.holding.left_behind_until_s = now_s() + 30.0
    old._context.boot_s = now_s() - 100.0
    running.park = running._parked.wait  # type: ignore[method-assign, assignment]
    state = await old.freeze()
    assert len(state.vips) == stands
    new._book.adopt(state.words, state.boot_s)
    assert (new._book.refuse("web", 3, 60.0, now_s()) == 0.0) is (stands and not left_behind)


async def test_virtual_ips_wait_for_descriptors_without_a_stack_trace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    monkeypatch.setattr(virtual_ips._host, "open", refuse)
    virtual_ips._wanted["web"] = Vip(address="10.0.0.100")
    for _ in range(2):
        await virtual_ips._bring_about()
    [told] = caplog.records
    assert told.message == "virtual IPs have to wait: a socket for them cannot be opened"
    assert vars(told)["reason"] == "Too many open files"


class CannotRemove(NoAnnouncer):
    def release(self, *, in_order: bool) -> None:
        raise AnnounceError("10.0.0.100/32 cannot be removed: Operation not permitted")


async def test_who_could_not_remove_its_address_refuses_nothing_before_the_kernel_has() -> None:
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    vip = Vip(address="10.0.0.100", ttl_s=60, lifetime_s=30)
    running = VirtualIp("web", vip, virtual_ips._context, CannotRemove())
    virtual_ips._running["web"] = (vip, running)
    confirmation: Any = SimpleNamespace(sent_s=now_s(), token=3)
    running.holding.acquire(confirmation)
    assert virtual_ips.answers.uses("web", 3)
    running.holding.take_down("it is to go", in_order=False)
    assert running.holding.hold is None
    assert virtual_ips.answers.uses("web", 3)
    # As `stop` does once more.
    running.holding.take_down("it is to go", in_order=False)
    assert virtual_ips.answers.uses("web", 3)
    assert running.holding.left_behind_until_s > now_s() + 20.0
    running.holding.left_behind_until_s = now_s()
    assert not virtual_ips.answers.uses("web", 3)


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
@pytest.mark.parametrize("removed", [True, False], ids=["removed", "left behind"])
async def test_an_address_that_may_have_been_set_in_spite_of_a_failure_is_removed(
    removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weldr.control.announce.kernel import KernelAnnouncer
    from weldr.control.announce.rtnetlink import Link

    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    vip = Vip(address="10.0.0.100", ttl_s=60, lifetime_s=30)
    deleted: list[int] = []

    def set_address(*arguments: object) -> None:
        raise AnnounceError("10.0.0.100/32 cannot be set on eth0: timed out")

    def delete_address(index: int, interface: object) -> None:
        deleted.append(index)
        if not removed:
            raise AnnounceError("10.0.0.100/32 cannot be removed: timed out")

    netlink: Any = SimpleNamespace(set_address=set_address, delete_address=delete_address)
    announcer = KernelAnnouncer("web", vip, netlink)
    link = Link(2, "eth0", "02:00:00:00:00:01", up=True, running=True, loopback=False)
    monkeypatch.setattr(announcer, "_usable", link)
    monkeypatch.setattr(announcer, "_speaker", lambda link: None)
    running = VirtualIp("web", vip, virtual_ips._context, announcer)
    virtual_ips._running["web"] = (vip, running)
    confirmation: Any = SimpleNamespace(sent_s=now_s(), token=3)
    running.holding.acquire(confirmation)
    assert running.holding.hold is None
    assert deleted == [2]
    assert virtual_ips.answers.uses("web", 3) is not removed
    assert (running.holding.left_behind_until_s > now_s() + 20.0) is not removed
    await running.holding.close()


@pytest.mark.parametrize("passes", [True, False], ids=["passes", "fails"])
async def test_a_holder_is_of_use_after_an_upgrade_until_its_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: bool
) -> None:
    monkeypatch.setattr(virtual_ips_module, "_SETTLING_LOOKS", 5)
    program = tmp_path / "check"
    program.write_text(f"#!/bin/sh\nsleep 0.1\nexit {0 if passes else 1}\n")
    program.chmod(0o755)
    vip = Vip(address="10.0.0.100", announce="none", check="check")
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], tmp_path, lambda: None, lambda: None)
    virtual_ips.take([standing("a", "b")])
    now = now_s()
    handed = HandedVip(
        candidacy=Candidacy(vip="web", value=vip, lease=3, ttl_s=3, token=3),
        held=HeldAddress(token=3, window_end_s=now + 30, expires_s=now + 30, confirmed_s=now),
        last_held=3,
        state="announcing",
    )
    try:
        await virtual_ips.adopt(VipsState(vips=[handed], words=[], boot_s=now), None)
        assert virtual_ips.answers.tokens_held() == {"web": 3}
        useless = virtual_ips._context.useless
        assert useless(vip) is None
        for _ in range(50 if passes else 1000):
            if useless(vip) is not None:
                break
            await asyncio.sleep(0.02)
        assert (useless(vip) is None) == passes
    finally:
        await virtual_ips.stop("the test is over")


async def test_what_another_instance_of_the_same_name_may_have_promised_binds_whoever_has_the_name_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(virtual_ips_module, "now_s", lambda: clock.now_s)
    client: Any = NoEtcd()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    bound_s = []
    for revision, boot in enumerate((virtual_ips._peers.boot, "another life", virtual_ips._peers.boot, ""), 1):
        clock.now_s += 1.0
        value = {"peer": {"address": "10.0.0.2:8688", "boot": boot}} if boot else {}
        pair = KeyValue(b"/weldr/instances/a", msgspec.json.encode(value), 1, revision)
        virtual_ips.take([Revision(revision, (Event(pair),))])
        bound_s.append(virtual_ips._context.boot_s)
        assert virtual_ips._book.began_s == virtual_ips._context.boot_s
    assert bound_s == [1000.0, 1002.0, 1003.0, 1003.0]
    await virtual_ips.stop("the test is over")


async def test_what_was_found_when_etcd_was_restored_is_handed_on() -> None:
    """Or a holder from before would be promised what one since then was refused for."""
    client: Any = NoEtcd()
    old, new, newest = (
        VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None) for _ in range(3)
    )
    old.take([Snapshot(9, (), "restored")])
    state = await old.freeze()
    record = KeyValue(b"/weldr/holders/web", msgspec.json.encode(holder("b", token=4)), 12, 12)
    new.take([Snapshot(15, (record,), "start")])
    assert new._view.claimed_since_restored("web") == 0
    await new.adopt(msgspec.json.decode(msgspec.json.encode(state), type=VipsState), None)
    assert new._view.restored_revision == 9
    assert new._view.restored_s == old._view.restored_s
    assert new._view.claimed_since_restored("web") == 4
    # What it found itself, and later, counts.
    newest.take([Snapshot(20, (), "restored")])
    found_s = newest._view.restored_s
    await newest.adopt(state, None)
    assert (newest._view.restored_s, newest._view.restored_revision) == (found_s, 20)
    old.thaw()
    for virtual_ips in (old, new, newest):
        await virtual_ips.stop("the test is over")
