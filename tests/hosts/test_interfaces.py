"""One host and its kernel: what stands in the way of an address, and what is done when it comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.hosts.namespaces import Host, Network, inside, require_namespaces
from weldr.control.announce import kernel as kernel_module
from weldr.control.announce import neighbours as neighbours_module
from weldr.control.announce.announcer import AnnounceError
from weldr.control.announce.connections import cut_connections
from weldr.control.announce.frames import Claim, announcements, claim_in, probe
from weldr.control.announce.kernel import KernelAnnouncer
from weldr.control.announce.rtnetlink import Rtnetlink
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip

_ALL_FRAMES = 3
"""ETH_P_ALL."""
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001


def test_an_ipv6_address_cannot_be_held_where_ipv6_is_disabled() -> None:
    require_namespaces()
    with Network() as network:
        host = network.add("alone")
        with inside(host.namespace):
            switch = Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", Vip(address="fd77::100", interface="eth0"), netlink)
            assert announcer.problem() is None
            switch.write_text("1")
            netlink.forget_seen()
            assert announcer.problem() == "IPv6 is disabled on eth0: sysctl net.ipv6.conf.eth0.disable_ipv6"
            switch.write_text("0")
            netlink.forget_seen()
            assert announcer.problem() is None
            netlink.close()


async def test_a_host_keeps_its_own_address_when_a_virtual_one_of_the_same_network_leaves() -> None:
    """The kernel takes the later one of two addresses of one network away together with the first."""
    require_namespaces()
    with Network() as network:
        host = network.add("renumbered")
        with inside(host.namespace):
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", Vip(address="10.77.0.100/24", interface="eth0"), netlink)
            host.ip("addr", "del", f"{host.front}/24", "dev", "eth0")
            assert announcer.problem() is None
            announcer.acquire(7, now_s() + 10.0)
            assert " 10.77.0.100/24 " in host.ip("-4", "addr", "show", "dev", "eth0")
            # As when its lease of DHCP comes after the virtual address, or its network is restarted.
            host.ip("addr", "add", f"{host.front}/24", "dev", "eth0")
            assert announcer.in_place()
            announcer.release(in_order=False)
            await announcer.close()
            netlink.close()
        assert f" {host.front}/24 " in host.ip("-4", "addr", "show", "dev", "eth0")


def test_a_host_that_could_lose_its_own_address_so_does_not_take_a_virtual_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    require_namespaces()
    monkeypatch.setattr(kernel_module, "_IPV4_CONF", tmp_path)
    with Network() as network:
        host = network.add("readonly")
        with inside(host.namespace):
            netlink = Rtnetlink()
            with_prefix = KernelAnnouncer("web", Vip(address="10.77.0.100/24", interface="eth0"), netlink)
            alone = KernelAnnouncer("web", Vip(address="10.77.0.100", interface="eth0"), netlink)
            assert "net.ipv4.conf.eth0.promote_secondaries" in (with_prefix.problem() or "")
            assert alone.problem() is None
            netlink.close()


def test_an_interface_that_nobody_could_reach_an_address_at_is_a_problem() -> None:
    require_namespaces()
    with Network() as network:
        host = network.add("cables")
        with inside(host.namespace):
            netlink = Rtnetlink()

            def problem(interface: str | None = "eth0", address: str = "10.77.0.100") -> str | None:
                netlink.forget_seen()
                return KernelAnnouncer("web", Vip(address=address, interface=interface), netlink).problem()

            assert problem() is None
            assert problem(interface=None) is None
            assert problem("eth7") == "this host has no interface eth7"
            assert "no interface of this host has a network" in (problem(None, "192.0.2.1") or "")
            assert "lo is the loopback interface" in (problem("lo") or "")
            assert "an address of this host itself" in (problem(address=host.front) or "")
            network.unplug(host)
            assert problem() == "the interface eth0 has no carrier"
            host.link("eth0", "down")
            assert problem() == "the interface eth0 is down"
            netlink.close()


@pytest.mark.parametrize(("address", "each"), [("10.77.0.100", 2), ("fd77::100", 1)])
async def test_an_address_that_was_taken_is_announced_several_times_and_then_at_an_interval(
    monkeypatch: pytest.MonkeyPatch, address: str, each: int
) -> None:
    """For IPv4 in both forms of a gratuitous ARP, for IPv6 as an unsolicited neighbour advertisement."""
    require_namespaces()
    gaps_s = neighbours_module._FIRST_GAPS_S
    assert len(gaps_s) > 3
    assert list(gaps_s) == sorted(gaps_s), "increasing"
    assert neighbours_module._INTERVAL_S == 60
    monkeypatch.setattr(neighbours_module, "_FIRST_GAPS_S", tuple(gap_s / 50 for gap_s in gaps_s))
    monkeypatch.setattr(neighbours_module, "_INTERVAL_S", 0.1)
    with Network() as network:
        host, client = network.add("holder"), network.add("listener")
        with _wire_of(client) as heard, inside(host.namespace):
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", _lasting(address), netlink)
            announcer.acquire(7, now_s() + 10.0)
            claims: list[str] = []
            async with asyncio.timeout(30):
                while len(claims) < each * (len(gaps_s) + 3):
                    frame = await asyncio.get_running_loop().sock_recv(heard, 2048)
                    claim = claim_in(frame)
                    if claim is not None and str(claim.ip) == address:
                        claims.append(claim.mac)
            assert set(claims) == {_mac_of(host)}
            announcer.release(in_order=False)
            await announcer.close()
            netlink.close()


@pytest.mark.parametrize("address", ["10.77.0.100", "fd77::100"])
async def test_whoever_answers_for_an_address_is_told_and_announced_against(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    """Before it is claimed, and while it is held: then at most once in a while, whatever somebody sends."""
    require_namespaces()
    read: asyncio.Queue[bytes] = asyncio.Queue()

    def read_claim(frame: bytes) -> Claim | None:
        read.put_nowait(frame)
        return claim_in(frame)

    monkeypatch.setattr(neighbours_module, "claim_in", read_claim)
    monkeypatch.setattr(neighbours_module, "_FIRST_GAPS_S", (0.0,))
    monkeypatch.setattr(neighbours_module, "_LEAST_CONFLICT_GAP_S", 30.0)
    virtual = ipaddress.ip_address(address)
    with Network() as network:
        host, other = network.add("holder"), network.add("other")
        with _wire_of(other) as wire, inside(host.namespace):
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", _lasting(address), netlink)
            assert await announcer.conflict() is None
            other.ip("addr", "add", address, "dev", "eth0", *(["nodad"] if virtual.version == 6 else []))
            assert await announcer.conflict() == (
                f"the host with the MAC address {_mac_of(other)} answers for {address}"
            )
            announcer.acquire(7, now_s() + 10.0)
            with contextlib.suppress(BlockingIOError):
                while wire.recv(2048):
                    pass
            ours, theirs = (announcements(virtual, _mac_of(each)) for each in (host, other))
            for frame in theirs * 20:
                wire.send(frame)
            async with asyncio.timeout(30):
                while await asyncio.get_running_loop().sock_recv(wire, 2048) != ours[-1]:
                    pass
                for _ in range(20):
                    while await read.get() != theirs[-1]:
                        pass
            told = [record for record in caplog.records if "another host answers" in record.message]
            assert [record.__dict__["mac"] for record in told] == [_mac_of(other)]
            announcer.release(in_order=False)
            await announcer.close()
            netlink.close()


@pytest.mark.parametrize("address", ["10.99.0.1", "fd99::1"])
async def test_nothing_is_said_on_a_tunnel_which_has_no_neighbours(address: str) -> None:
    require_namespaces()
    with Network() as network, contextlib.ExitStack() as opened:
        host = network.add("tunnelled")
        with inside(host.namespace):
            try:
                tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                pytest.skip(f"this system has no tunnels: {error.strerror}")
            opened.callback(os.close, tunnel)
            fcntl.ioctl(tunnel, _TUNSETIFF, struct.pack("16sH", b"tun0", _IFF_TUN_NO_PI))
            host.link("tun0", "up")
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", Vip(address=address, interface="tun0"), netlink)
            assert await announcer.conflict() is None
            announcer.acquire(7, now_s() + 10.0)
            assert announcer.in_place()
            announcer.release(in_order=False)
            await announcer.close()
            netlink.close()
        with contextlib.suppress(BlockingIOError):
            while packet := os.read(tunnel, 2048):
                assert packet[0] >> 4 in (4, 6), f"no packet of IP: {packet.hex()}"


@pytest.mark.parametrize("address", ["10.77.0.100/24", "fd77::100/128"])
async def test_an_interface_that_was_made_anew_is_given_the_address_again(address: str) -> None:
    require_namespaces()
    with Network() as network:
        host = network.add("renewed")
        with inside(host.namespace):
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", Vip(address=address, interface="eth0"), netlink)
            announcer.acquire(7, now_s() + 10.0)
            network.renew(host)
            netlink.forget_seen()
            assert not announcer.in_place()
            announcer.renew(now_s() + 10.0)
            assert announcer.in_place()
            assert announcer._neighbours is not None
            assert announcer._neighbours._link.mac == _mac_of(host), "it is announced from there"
            host.link("eth0", "down")
            host.ip("link", "del", "eth0")
            with pytest.raises(AnnounceError, match="cannot be set on eth0: No such device"):
                announcer.renew(now_s() + 10.0)
            announcer.release(in_order=False)
            await announcer.close()
            netlink.close()


async def test_a_host_that_was_stopped_does_not_announce_what_another_one_holds_by_now() -> None:
    require_namespaces()
    with Network() as network:
        host, other = network.add("frozen"), network.add("successor")
        vip = Vip(address="10.77.0.100", interface="eth0")
        with inside(other.namespace):
            heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
            heard.bind(("eth0", _ALL_FRAMES))
            heard.setblocking(False)
            others = Rtnetlink()
            successor = KernelAnnouncer("web", vip, others)
        with heard, inside(host.namespace):
            netlink = Rtnetlink()
            frozen = KernelAnnouncer("web", vip, netlink)
            frozen.acquire(7, now_s() + 10.0)
            # Nothing is run here until the kernel has removed the address.
            while vip.interface_address in [found.interface for found in netlink.addresses()]:
                time.sleep(0.05)  # noqa: ASYNC251
            with inside(other.namespace):
                with contextlib.suppress(BlockingIOError):
                    while heard.recv(2048):
                        pass
                loop = asyncio.get_running_loop()
                successor.acquire(8, now_s() + 10.0)
            speaker = frozen._neighbours
            assert speaker is not None
            async with asyncio.timeout(30):
                while not speaker._claims:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            speaker._send(marker := probe(vip.interface_address.ip, _mac_of(host)))
            claims = []
            while (frame := await asyncio.wait_for(loop.sock_recv(heard, 2048), 30)) != marker:
                claims.append(claim_in(frame))
            assert _mac_of(host) not in {claim.mac for claim in claims if claim is not None}
            for announcer, rtnetlink in ((frozen, netlink), (successor, others)):
                announcer.release(in_order=False)
                await announcer.close()
                rtnetlink.close()


async def test_connections_to_an_address_that_is_released_are_reset() -> None:
    require_namespaces()
    with Network() as network:
        host, client = network.add("holder"), network.add("client")
        with inside(host.namespace):
            netlink = Rtnetlink()
            announcer = KernelAnnouncer("web", Vip(address="10.77.0.100", interface="eth0"), netlink)
            announcer.acquire(7, now_s() + 10.0)
            listener = socket.create_server(("0.0.0.0", 8080))
            with inside(client.namespace):
                connection = socket.create_connection(("10.77.0.100", 8080), timeout=30)
            served, _ = listener.accept()
            announcer.release(in_order=True)
            with listener, connection, served:
                if _can_reset():
                    with pytest.raises(ConnectionResetError):
                        connection.recv(1)
            await announcer.close()
            netlink.close()


def _can_reset() -> bool:
    """Whether the kernel has SOCK_DESTROY; looked at in this namespace."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0],
    ):
        return cut_connections(ipaddress.ip_address("127.0.0.1")) > 0


def _wire_of(host: Host) -> socket.socket:
    """Every frame that comes to the host on the front network; what is sent on it goes out as it is."""
    with inside(host.namespace):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES))
        wire.bind(("eth0", _ALL_FRAMES))
        wire.setblocking(False)
    return wire


def _mac_of(host: Host) -> str:
    return host.ip("-o", "link", "show", "dev", "eth0").partition("link/ether ")[2].split()[0]


def _lasting(address: str) -> Vip:
    """One that is not renewed, and is there for as long as a test may take."""
    return Vip(address=address, interface="eth0", ttl_s=60, lifetime_s=50)


@pytest.mark.parametrize(("there", "announced"), [("marked", 1), ("without its mark", 1), ("gone", 0)])
async def test_in_an_upgrade_an_address_is_announced_if_it_is_here(
    there: str, announced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have lapsed on the way, and be at another host. Old kernels do not keep the mark."""
    require_namespaces()
    said: list[str] = []
    monkeypatch.setattr(neighbours_module.Neighbours, "announce", lambda self: said.append(there))
    with Network() as network:
        host = network.add("upgraded")
        with inside(host.namespace):
            netlink = Rtnetlink()
            before, after = (KernelAnnouncer("web", Vip(address="10.77.0.100"), netlink) for _ in range(2))
            if there == "marked":
                before.acquire(7, now_s() + 1.0)
                said.clear()
            elif there != "gone":
                host.ip("addr", "add", "10.77.0.100/32", "dev", "eth0")
            netlink.forget_seen()
            after.adopt(7, placed=True)
            assert len(said) == announced
            after.release(in_order=False)
            assert "10.77.0.100" not in host.ip("addr", "show")
            await before.close()
            await after.close()
            netlink.close()
