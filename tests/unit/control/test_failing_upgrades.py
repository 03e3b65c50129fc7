"""Upgrades that come to nothing: whatever stands in their way, the old manager goes on as before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from weldr.control.life import Life
from weldr.control.listeners import Group, ListenAddress, Listener, Listeners
from weldr.control.presence import Presence
from weldr.control.upgrade import link as link_module
from weldr.control.upgrade.estate import Estate
from weldr.control.upgrade.giving import Giver, UpgradeError, Wish, give
from weldr.control.upgrade.link import Link, LinkEndedError
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.etcd.answers import Header, LeaseGrant
from weldr.etcd.client import EtcdClient
from weldr.model.health import Standing
from weldr.model.keys import KeySpace
from weldr.model.takeover import FromNew, FromOld, KnownDown, Refusal
from weldr.model.values import Instance

_LIMIT_S = 10.0
_HEADER = Header(1, 1, 1, 1)


class FakeClient:
    """An etcd that grants leases, and takes a while for a put."""

    def __init__(self) -> None:
        self.puts = 0
        self._leases = 0

    async def grant_lease(self, ttl_s: int) -> LeaseGrant:
        self._leases += 1
        return LeaseGrant(self._leases, ttl_s, time.monotonic() + ttl_s, _HEADER)

    async def revoke_lease(self, lease_id: int, *, timeout_s: float) -> None:
        pass

    async def put(self, key: bytes, value: bytes, *, lease: int) -> Header:
        await asyncio.sleep(0.05)
        self.puts += 1
        return _HEADER


def presence_of(client: FakeClient) -> Presence:
    instance = Instance(version="1", addresses=[], admin="", started=None, applied=0)  # type: ignore[arg-type]
    return Presence(cast(EtcdClient, client), b"k", lambda: instance, lambda revision: None)


def estate_of(**parts: Any) -> Estate:
    unused = dict.fromkeys(("listeners", "admin_listeners", "control", "virtual_ips", "presence", "retired"))
    return Estate(**({"instance": "i", "prefix": "/weldr/", "health": None} | unused | parts))


def giver() -> Giver:
    nothing = SimpleNamespace(groups=[])
    return cast(
        Giver,
        SimpleNamespace(
            instance="i",
            prefix="/weldr/",
            listeners=nothing,
            admin_listeners=nothing,
            control_descriptor=lambda: None,
            peer_descriptor=lambda: None,
            hints=list,
            known_down=lambda: KnownDown(backends=[]),
        ),
    )


@pytest.mark.parametrize("call", ["socket.socketpair", "os.pipe"])
async def test_without_a_descriptor_left_the_old_manager_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        module, _, name = call.partition(".")
        patch.setattr({"socket": socket, "os": os}[module], name, fail)
        with pytest.raises(UpgradeError, match="Too many open files"):
            await give(giver(), Wish(["/bin/true"]))


async def test_what_the_other_manager_does_not_read_is_not_waited_for_without_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link_module, "_SEND_LIMIT_S", 0.1, raising=False)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    link: Link[FromNew] = Link(ours, FromNew)
    with theirs:
        async with asyncio.timeout(_LIMIT_S):
            with pytest.raises(LinkEndedError, match="does not read"):
                await link.send(Refusal(reason="x" * 10_000_000))
    link.close()


async def test_backends_that_are_down_fit_into_a_socket_that_nobody_reads_whatever_they_are_called() -> None:
    down = {(f"service-{number}" * 100, "é" * 1000, "10.0.0.1", 80): Standing.DOWN for number in range(200)}
    monitor = SimpleNamespace(reason=lambda key: "\N{SNOWMAN}" * 1000)
    estate = estate_of(health=SimpleNamespace(standings=down, monitor=monitor))
    ours, theirs = socket.socketpair()
    link: Link[FromNew] = Link(ours, FromNew)
    other: Link[FromOld] = Link(theirs, FromOld)
    async with asyncio.timeout(_LIMIT_S):
        await link.send(estate.known_down())
        told = await other.receive()
    assert isinstance(told, KnownDown)
    assert len(told.backends) > 10
    link.close()
    other.close()


async def test_a_second_upgrade_waits_for_the_key_of_the_retired_manager_as_the_first_does() -> None:
    client = FakeClient()

    async def freeze() -> None:
        puts_when_frozen.append(client.puts)

    async def quieten() -> None:
        pass

    puts_when_frozen: list[int] = []
    estate = estate_of(
        virtual_ips=SimpleNamespace(freeze=freeze),
        presence=SimpleNamespace(quieten=quieten, speak=lambda: None),
        retired=presence_of(client),
    )
    for _ in range(2):
        await estate.rest()
        await estate.forget_retirement()
    assert puts_when_frozen == [1, 2]


async def test_a_manager_that_is_stopped_while_it_begins_to_rest_goes_on_to_tell_of_itself() -> None:
    said: list[str] = []
    resting = asyncio.Event()

    async def freeze() -> None:
        resting.set()
        await asyncio.Event().wait()

    async def quieten() -> None:
        said.append("quiet")

    estate = estate_of(
        virtual_ips=SimpleNamespace(freeze=freeze),
        presence=SimpleNamespace(quieten=quieten, speak=lambda: said.append("speaks")),
        retired=presence_of(FakeClient()),
    )
    task = asyncio.create_task(estate.rest())
    async with asyncio.timeout(_LIMIT_S):
        await resting.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await estate.forget_retirement()
    assert said == ["quiet", "speaks"]


async def test_after_an_upgrade_that_came_to_nothing_every_worker_is_given_connections_again() -> None:
    old = Listeners([ListenAddress("127.0.0.1", 0)], 2)
    (group,) = old.groups
    # As a new manager with one worker would begin, on copies of the same sockets.
    copies = [Listener(listener.sock.dup()) for listener in group.listeners]
    new = Listeners([], 1, given=[Group(group.asked, group.address, copies, activated=True)])
    new.groups[0].activated = False
    new.begin()
    new.close()
    calls = SimpleNamespace(take_back=lambda: None, speak=lambda: None)
    estate_of(listeners=old, admin_listeners=Listeners([], 1), virtual_ips=calls, presence=calls).act()
    host, _, port = group.address.rpartition(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(60)]
    taken = []
    for listener in group.listeners:
        listener.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                taken.append(listener)
                listener.sock.accept()[0].close()
    for client in clients:
        client.close()
    old.close()
    assert len(taken) == 62
    assert min(taken.count(listener) for listener in group.listeners) > 1


async def test_a_new_manager_is_not_ready_before_it_can_hold_addresses() -> None:
    said: list[str] = []

    async def say_ready(taken: object) -> None:
        said.append("ready")

    async def wait_takeover() -> None:
        while "ready" not in said:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    config: Any = SimpleNamespace(shutdown_delay_s=0.0)
    life = Life(config)
    groups = SimpleNamespace(groups=[])
    parts: Any = SimpleNamespace(
        virtual_ips=SimpleNamespace(prepare=lambda: said.append("prepared")),
        listeners=groups,
        admin_listeners=groups,
    )
    life._parts = parts
    life.note_loaded()
    taker: Any = SimpleNamespace(say_ready=say_ready, wait_takeover=wait_takeover, ready_in_s=None)
    never = [asyncio.create_task(asyncio.sleep(600)) for _ in range(2)]
    async with asyncio.timeout(_LIMIT_S):
        assert await life._wait_to_act(taker, *never)  # type: ignore[arg-type]
    for task in never:
        task.cancel()
    assert said == ["prepared", "ready"]


_PREPARE = """
import sys
from weldr.control.vip.view import WantedVip
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.model.keys import KeySpace
from weldr.model.vips import Vip
virtual_ips = VirtualIps(None, KeySpace(), "i", [], None, lambda: None, lambda: None)
virtual_ips._wanted = {"web": Vip(address="10.0.0.100", announce=sys.argv[1])}
virtual_ips.prepare()
print("pyroute2" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
@pytest.mark.parametrize(("announce", "loaded"), [("netlink", "True"), ("none", "False")])
def test_what_setting_an_address_needs_is_loaded_before_an_upgrade_waits_for_it(
    announce: str, loaded: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE, announce], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"{loaded}\n"


async def test_virtual_ips_go_on_when_a_manager_is_stopped_while_they_are_frozen() -> None:
    virtual_ips = VirtualIps(
        cast(EtcdClient, FakeClient()), KeySpace(), "i", [], None, lambda: None, lambda: None
    )
    virtual_ips._ending["web"] = ending = asyncio.create_task(asyncio.sleep(60))
    task = asyncio.create_task(virtual_ips.freeze())
    await asyncio.sleep(0.05)
    task.cancel()
    ending.cancel()
    await asyncio.gather(task, ending, return_exceptions=True)
    virtual_ips._ending.clear()
    async with asyncio.timeout(_LIMIT_S):
        await virtual_ips.freeze()
        virtual_ips.thaw()
    await virtual_ips.stop("the test is over")


async def test_a_program_that_cannot_be_executed_is_named_with_the_reason() -> None:
    with pytest.raises(UpgradeError, match=r"cannot be started: /nowhere/weldr: No such file or directory"):
        await give(giver(), Wish(["/nowhere/weldr"]))
