"""What one instance or one virtual IP suffers from must not spread to the others."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import ADDRESS, Site, holder, others, queue
from weldr.control.announce import command as command_module
from weldr.control.announce import rtnetlink
from weldr.control.announce.announcer import AnnounceError
from weldr.control.announce.command import CommandAnnouncer, run_command
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip import claiming as claiming_module
from weldr.control.vip import holding as holding_module
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.holding import Holding
from weldr.control.vip.machine import State
from weldr.control.vip.means import Means
from weldr.control.vip.placement import Placement
from weldr.control.vip.silence import Silence
from weldr.control.vip.tidy import HostWatch
from weldr.control.vip.view import View, WantedVip
from weldr.etcd.client import Put
from weldr.etcd.clock import now_s
from weldr.etcd.election import Contender
from weldr.etcd.follow import Snapshot
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
from weldr.model.vips import Holder, Move, Vip


def instance(view: View, value: dict[str, Any]) -> set[str]:
    event = Event(KeyValue(b"/weldr/instances/b", msgspec.json.encode(value), 2, 2))
    return view.fold([Revision(2, (event,))], now_s())


def test_what_another_instance_tells_of_its_virtual_ips_wakes_nobody() -> None:
    view = View(KeySpace())
    peer = {"address": "10.0.0.2:8688", "boot": "1"}
    assert instance(view, {"peer": peer}) == {""}
    assert instance(view, {"peer": peer, "vips": {"web": {"state": "announcing"}}}) == set()
    assert view.states["b"]["web"].state == "announcing"
    assert instance(view, {"peer": peer | {"boot": "2"}}) == {""}
    assert instance(view, {}) == {""}


class Refused(NoAnnouncer):
    def acquire(self, token: int, latest_s: float) -> None:
        raise AnnounceError("Permission denied")


def test_who_cannot_set_what_it_claims_leaves_others_the_time_to_claim_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(holding_module, "now_s", lambda: clock.now_s)
    vip = Vip(address="10.0.0.100")
    context: Any = None
    holding = Holding(
        "web",
        vip,
        context,
        Refused(),
        frozenset,
        lambda reason: None,
        lambda: None,
    )
    confirmation: Any = SimpleNamespace(sent_s=1000.0, token=7)
    pauses = []
    for _ in range(9):
        holding.acquire(confirmation)
        began_s = clock.now_s
        while holding.find_problem():
            clock.now_s += 0.25
        pauses.append(clock.now_s - began_s)
    assert pauses[0] == 1.0
    assert min(pauses[1:]) > vip.timing().wait_s
    assert max(pauses) == 60.0


async def test_claims_that_come_too_late_do_not_follow_each_other_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claiming_module, "now_s", lambda: 1000.0)
    site = Site()
    site.view.vips["web"] = WantedVip(Vip(address=ADDRESS), 1)
    running = VirtualIp("web", Vip(address=ADDRESS), site.context, NoAnnouncer())
    running._claiming.probed = True
    sent = []
    leads = True

    async def confirm(compares: object, operations: object) -> Any:
        sent.append(1)
        return SimpleNamespace(held=True, leads=leads, sent_s=now_s() - 5.0, token=7, queue=())

    monkeypatch.setattr(running._seat, "confirm", confirm)
    running._seat._candidate.adopt(7, 3, 7)
    assert 0.05 <= await running._claim() <= 0.1
    for _ in range(5):
        # The watch has told of the claim.
        assert await running._claim() > 0.0
    assert len(sent) == 1
    pauses = []
    for _ in range(8):
        running._claiming._from_s = 0.0
        pauses.append(await running._claim())
    assert 1.0 <= pauses[-1] <= 2.0
    # Another one has led since: this is another failover.
    leads, running._claiming._from_s = False, 0.0
    await running._turn()
    leads = True
    assert await running._claim() <= 0.1


@pytest.mark.parametrize(
    ("before", "released"),
    [(None, True), (holder("b"), True), (holder("a", token=5), True), (holder("a", token=6), False)],
    ids=["nobody's", "another host's", "its own", "an earlier life's on this host"],
)
async def test_who_claimed_what_it_could_not_set_says_that_it_is_free(
    before: Holder | None, released: bool
) -> None:
    site = Site()
    site.view.vips["web"] = WantedVip(Vip(address=ADDRESS), 1)
    running = VirtualIp("web", Vip(address=ADDRESS), site.context, Refused())
    running._claiming.probed = True
    running._record.holder, running.holding.last_held = before, 5
    written: list[Put] = []

    async def confirm(compares: object, operations: list[Put]) -> Any:
        running._record.holder = msgspec.json.decode(operations[0].value, type=Holder)
        return SimpleNamespace(held=True, leads=True, sent_s=now_s(), token=7, queue=())

    async def withdraw(compares: object, operations: list[Put]) -> None:
        written.extend(operations)

    running._seat.confirm = confirm  # type: ignore[method-assign, assignment]
    running._seat.withdraw = withdraw  # type: ignore[method-assign, assignment]
    running._seat._candidate.adopt(7, 3, 7)
    await running._claim()
    await running._turn()
    assert running.state is State.FAULT
    assert [msgspec.json.decode(put.value, type=Holder).state for put in written] == ["released"] * released


async def test_a_promise_binds_although_etcd_says_that_an_older_holder_has_released_the_address() -> None:
    site = Site()
    site.view.vips["web"] = WantedVip(Vip(address=ADDRESS), 1)
    running = VirtualIp("web", Vip(address=ADDRESS), site.context, NoAnnouncer())
    running._claiming.probed = True
    sent = []

    async def confirm(compares: object, operations: object) -> Any:
        sent.append(1)
        return SimpleNamespace(held=False, leads=True, sent_s=now_s(), token=7, queue=())

    running._seat.confirm = confirm  # type: ignore[method-assign, assignment]
    site.context.book.promise("web", 9, 3.0, now_s(), busy=False)
    for token, binds in ((3, True), (9, False)):
        record = msgspec.structs.replace(holder("b", token=token), state="released")
        running._record.holder = site.view.holders["web"] = record
        assert running._facts(None).promised is binds
        await running._claim()
        assert sent == [1] * (not binds)


class Flapping(NoAnnouncer):
    down = False

    def problem(self) -> str | None:
        return "the interface eth0 has no carrier" if self.down else None

    def in_place(self) -> bool:
        return not self.down


def test_an_interface_that_was_down_for_less_than_a_turn_costs_no_address() -> None:
    vip = Vip(address="10.0.0.100", ttl_s=60, lifetime_s=30)
    context: Any = SimpleNamespace(transitions=Counter())
    announcer = Flapping()
    holding = Holding("web", vip, context, announcer, frozenset, lambda reason: None, lambda: None)
    confirmation: Any = SimpleNamespace(sent_s=now_s(), token=7)
    holding.acquire(confirmation)
    announcer.down = True
    holding.look()
    assert holding.find_problem() == "the interface eth0 has no carrier"
    announcer.down = False
    holding.look()
    assert holding.find_problem() == ""
    assert holding.hold is not None


class CannotLook(NoAnnouncer):
    def problem(self) -> str | None:
        raise OSError(errno.EMFILE, "Too many open files")


def test_a_host_that_cannot_be_looked_at_has_a_problem() -> None:
    context: Any = None
    vip = Vip(address="10.0.0.100")
    holding = Holding("web", vip, context, CannotLook(), frozenset, lambda reason: None, lambda: None)
    assert holding.find_problem() == "whether this host can hold the address is not known: Too many open files"


class CannotAsk(NoAnnouncer):
    async def conflict(self) -> str | None:
        raise AnnounceError("no packets can be sent on eth0: No such device")


async def test_an_address_is_not_claimed_before_others_could_be_asked_for_it() -> None:
    running = VirtualIp("web", Vip(address=ADDRESS), Site().context, CannotAsk())
    for _ in range(2):
        await running._claim()
        assert running.holding.problem == "no packets can be sent on eth0: No such device"
        assert not running.busy


HOLDER = holder("a")
QUEUE = tuple(queue("a", "b", "c"))


def listener(site: Site, token: int, *, hears: list[str]) -> Silence:
    """Of the instance with that token, which no longer hears the holder; the other one `hears`."""
    [other] = set(others(site.context.me)) - {HOLDER.instance}
    site.hear("a", holds={"web": HOLDER.token})
    for _ in range(10):
        site.peers.hearing.take_turn({"a", "b", "c"})
        site.hear(other, hears=hears)
    seat: Any = SimpleNamespace(token=token, is_mine=lambda contender: contender.token == token)
    return Silence("web", Vip(address=ADDRESS), site.context, seat)


def test_a_silent_holder_has_only_those_ask_etcd_who_can_do_something_about_it() -> None:
    assert listener(Site("b"), 2, hears=[]).may_act(HOLDER, QUEUE)
    assert not listener(Site("b"), 2, hears=["a"]).may_act(HOLDER, QUEUE)
    assert not listener(Site("c"), 3, hears=[]).may_act(HOLDER, QUEUE)
    namesake = Site("b")
    namesake.context.machine = "another machine"
    assert not listener(namesake, 2, hears=[]).may_act(HOLDER, QUEUE)


async def test_a_holder_that_proved_that_it_lives_is_believed_and_no_other() -> None:
    site = Site("b")
    silence = listener(site, 2, hears=[])
    doubt: Any = SimpleNamespace(token=1)
    silence._doubt = doubt
    silence._seat.record = SimpleNamespace(holder=HOLDER)  # type: ignore[assignment]
    assert await silence.listen(SimpleNamespace(queue=QUEUE)) == 0.75  # type: ignore[arg-type]
    assert not silence.may_act(HOLDER, QUEUE)
    later = msgspec.structs.replace(HOLDER, token=0)
    site.hear("a", holds={"web": later.token})
    for _ in range(7):
        site.peers.hearing.take_turn({"a", "c"})
    site.hear("c")
    assert silence.may_act(later, (Contender(b"a", b"a", 0, 1), *QUEUE[1:]))


def test_nobody_steps_aside_for_an_instance_that_does_not_stand() -> None:
    site = Site("b")
    site.view.holders["web"], site.view.moves["web"] = HOLDER, Move(token=HOLDER.token, to="c")
    placement = Placement("web", Vip(address=ADDRESS), site.context)
    assert placement.elsewhere(None) == ""
    stands = Event(KeyValue(b"/weldr/elections/web/c", b"c", 3, 3))
    site.view.fold([Revision(3, (stands,))], now_s())
    assert placement.elsewhere(None) == "it is to move to c"


async def test_a_program_that_became_another_users_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "check"
    program.write_text("#!/bin/sh\nexec sleep 0.4\n")
    program.chmod(0o755)

    def refuse(group: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    assert "took longer" in (await run_command(program, "check", {}, 0.1) or "")
    # Its end is to be seen by this event loop.
    await asyncio.sleep(0.6)


def test_what_is_left_behind_is_removed_and_not_what_another_weldr_on_this_host_holds() -> None:
    view = View(KeySpace())
    view.vips["web"] = WantedVip(Vip(address="10.0.0.100"), 1)
    view.holders["gone"] = msgspec.structs.replace(HOLDER, address="fd00::1")
    removed = []
    netlink: Any = SimpleNamespace(
        addresses=lambda: [
            SimpleNamespace(index=2, interface=ipaddress.ip_interface(text), marked=marked, lapses=lapses)
            for text, marked, lapses in (
                ("10.0.0.100/32", True, True),
                ("10.0.0.100/24", True, True),
                ("10.0.0.200/32", True, True),
                ("10.0.0.201/32", True, False),
                ("fd00::1/128", True, True),
                ("10.0.0.100/16", False, False),
            )
        ],
        delete_address=lambda index, interface: removed.append(str(interface)),
    )
    host = HostWatch(lambda changes: None)
    host._netlink = netlink
    host.remove_stale({ipaddress.ip_interface("10.0.0.100/24")}, view.addresses())
    assert removed == ["10.0.0.100/32", "10.0.0.201/32", "fd00::1/128"]


async def test_a_manager_that_takes_over_fetches_what_the_old_one_has_not_fetched_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    began = asyncio.Event()
    fails = True

    async def run(path: Path, argument: str, environment: dict[str, str], limit_s: float) -> str | None:
        ran.append(argument)
        began.set()
        return "the cloud is away" if fails else None

    monkeypatch.setattr(command_module, "run_command", run)
    vip = Vip(address="10.0.0.100", announce="exec", command="move")
    old, new, newest = (CommandAnnouncer("web", vip, lambda: Path("/bin/false")) for _ in range(3))
    old.acquire(7, now_s() + 10.0)
    await asyncio.wait_for(began.wait(), 5.0)
    assert not old.placed()
    await asyncio.wait_for(old.close(), 5.0)
    fails = False
    new.adopt(7, placed=old.placed())
    await asyncio.wait_for(new.close(), 5.0)
    assert ran == ["acquire", "acquire"]
    newest.adopt(7, placed=new.placed())
    await asyncio.wait_for(newest.close(), 5.0)
    assert ran == ["acquire", "acquire"]


async def test_a_program_that_comes_later_ends_the_problem_that_it_was_not_there(tmp_path: Path) -> None:
    vip = Vip(address="10.0.0.100", announce="exec", command="move")
    host: Any = None
    announcer = Means(host, tmp_path, []).announcer("web", vip)
    assert announcer.problem() == f"there is no program {tmp_path / 'move'}"
    (tmp_path / "move").write_text("#!/bin/sh\n")
    (tmp_path / "move").chmod(0o755)
    assert announcer.problem() is None


async def test_an_acquire_that_hangs_does_not_outlive_the_hold(tmp_path: Path) -> None:
    program, began, released = tmp_path / "move", tmp_path / "began", tmp_path / "released"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = release ]; then echo > {released}; exit; fi\necho > {began}\nexec sleep 600\n'
    )
    program.chmod(0o755)
    vip = Vip(address="10.0.0.100", announce="exec", command="move")
    announcer = CommandAnnouncer("web", vip, lambda: program)
    announcer.acquire(7, now_s() + 10.0)
    await until(began.exists)
    announcer.release(in_order=True)
    await asyncio.wait_for(announcer.close(), command_module.COMMAND_LIMIT_S - 1.0)
    assert released.exists()
    began.unlink()
    announcer.acquire(8, now_s() + 10.0)
    await until(began.exists)
    # Another manager goes on: it runs the program itself.
    await asyncio.wait_for(announcer.close(), command_module.COMMAND_LIMIT_S - 1.0)
    assert not announcer.placed()


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not found():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_directory_of_programs_that_cannot_be_looked_into_is_a_problem() -> None:
    host: Any = None
    found = Means(host, Path("/", "x" * 300), []).program("move")
    assert isinstance(found, str)
    assert found.endswith("cannot be run: File name too long")


async def test_a_process_that_may_not_use_netlink_has_a_problem_and_virtual_ips_without_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(rtnetlink, "Rtnetlink", refuse)
    host = HostWatch(lambda changes: None)
    host.open()
    host.remove_stale(set(), set())
    announcer = host.announcer("web", Vip(address="10.0.0.100"))
    assert "cannot use netlink (Address family not supported by protocol)" in (announcer.problem() or "")
    with pytest.raises(AnnounceError):
        announcer.acquire(7, now_s() + 10.0)
    monkeypatch.undo()
    host.open()
    host.close()


async def test_an_address_that_could_not_be_fetched_is_fetched_again_for_as_long_as_it_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_module, "_AGAIN_S", 0.01)
    ran: list[str] = []
    enough = asyncio.Event()

    async def fail(path: Path, argument: str, environment: dict[str, str], limit_s: float) -> str:
        ran.append(argument)
        if len(ran) == 3:
            enough.set()
        return "the cloud is away"

    monkeypatch.setattr(command_module, "run_command", fail)
    vip = Vip(address="10.0.0.100", announce="exec", command="move")
    announcer = CommandAnnouncer("web", vip, lambda: Path("/bin/false"))
    announcer.acquire(7, now_s() + 10.0)
    await asyncio.wait_for(enough.wait(), 5.0)
    announcer.release(in_order=True)
    await asyncio.wait_for(announcer.close(), 5.0)
    assert ran == ["acquire"] * 3 + ["release"]
    announcer.acquire(8, now_s() + 10.0)
    await asyncio.sleep(0.05)
    # Another manager goes on: this one has not released it.
    await asyncio.wait_for(announcer.close(), 5.0)


@pytest.mark.parametrize(
    ("reason", "waits"),
    [("start", False), ("unwatched", False), ("restored", True), ("audit", True), ("compacted", True)],
)
def test_nobody_claims_at_once_in_what_may_be_another_etcd(reason: str, waits: bool) -> None:
    view = View(KeySpace())
    view.fold([Snapshot(2, (), reason)], 7.0)
    assert (view.restored_s == 7.0) is waits
