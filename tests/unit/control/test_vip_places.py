"""By which address an instance is known to the others, and on which interface a virtual IP is put."""

from __future__ import annotations

import secrets
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from weldr.control import own_address as own_address_module
from weldr.control.listeners import ListenAddress, Listeners
from weldr.control.own_address import own_address
from weldr.control.vip import peers as peers_module
from weldr.control.vip.means import Means
from weldr.control.vip.peers import PeerNetwork, towards
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.tidy import HostWatch
from weldr.control.vip.view import Secret, View, WantedVip
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.model.keys import KeySpace
from weldr.model.vips import Peer, Vip


def wanted(address: str, created: int) -> WantedVip:
    return WantedVip(Vip(address=address), created, created)


OLD_4, NEW_6, NEW_4 = wanted("10.0.0.100", 2), wanted("2001:db8::100", 7), wanted("10.9.9.9", 9)


def test_all_instances_choose_their_address_by_the_oldest_virtual_ip_in_whatever_order_they_heard_of_them() -> (
    None
):
    assert towards([NEW_6, OLD_4], [])[0] == ("10.0.0.100", 9)
    assert towards([NEW_6, OLD_4], []) == towards([OLD_4, NEW_6], [])


def test_who_comes_later_speaks_the_others_version_of_ip() -> None:
    peer = Peer(address="[2001:db8::2]:8688", boot="1")
    assert towards([OLD_4, NEW_6], [peer])[0] == ("2001:db8::100", 9)
    assert towards([NEW_6, NEW_4], [Peer(address="10.0.0.2:8688", boot="1")])[0] == ("10.9.9.9", 9)
    assert towards([NEW_6], [Peer(address="10.0.0.2:8688", boot="1")])[0] == ("10.0.0.2", 9)
    assert towards([OLD_4, NEW_6], [Peer(address="?", boot="1")])[0] == ("10.0.0.100", 9)


class Routed(socket.socket):
    """On a host with 10.0.0.1 in the network of the virtual IPs, and one of these in place."""

    def connect(self, address: Any) -> None:
        here = address[0] in ("10.0.0.100", "127.0.0.1")
        self.own = address[0] if here else "10.0.0.1"

    def getsockname(self) -> Any:
        return self.own, 50_000


async def test_an_instance_that_starts_while_its_host_still_has_the_virtual_ip_is_reached_by_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_address_module.socket, "socket", Routed)
    assert await own_address([*towards([OLD_4], []), ("127.0.0.1", 2379)]) == "10.0.0.1"


async def network_on(own: str, monkeypatch: pytest.MonkeyPatch) -> PeerNetwork:
    """All that it reaches others by is what it is told to reach them by."""

    async def own_address(towards: list[tuple[str, int]]) -> str:
        if not towards:
            raise OSError("no network")
        return towards[0][0]

    monkeypatch.setattr(peers_module, "own_address", own_address)
    view = View(KeySpace())
    view.secrets["peers"] = Secret(secrets.token_hex(32))
    holds: Any = SimpleNamespace(tokens_held=dict)
    network = PeerNetwork("a", "A", view, PromiseBook(0.0), holds, lambda: None)
    await network.open([(own, 9)])
    return network


async def test_an_instance_whose_host_gets_another_address_is_reached_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers_module, "_is_loopback", lambda own: False)
    network = await network_on("127.0.0.1", monkeypatch)
    before = network.address
    try:
        await network.follow_address([("127.0.0.2", 9)])
        assert network.address == before
        monkeypatch.setattr(peers_module, "_is_here", lambda own: own != "127.0.0.1")
        await network.follow_address([])
        assert network.address == before
        await network.follow_address([("127.0.0.2", 9)])
        assert network.address.startswith("127.0.0.2:")
        assert network.descriptor is not None
    finally:
        await network.close()


async def test_an_instance_that_started_before_its_network_is_reached_once_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = await network_on("127.0.0.1", monkeypatch)
    before = network.address
    try:
        await network.follow_address([("127.0.0.2", 9)])
        assert network.address == before
        monkeypatch.setattr(peers_module, "_is_loopback", lambda own: own == "127.0.0.1")
        await network.follow_address([("127.0.0.2", 9)])
        assert network.address.startswith("127.0.0.2:")
    finally:
        await network.close()


def test_an_address_is_taken_for_ours_only_if_this_host_has_it() -> None:
    assert peers_module._is_here("127.0.0.1")
    assert not peers_module._is_here("192.0.2.1")


FOUR, SIX = Vip(address="10.0.0.100"), Vip(address="2001:db8::100")


@pytest.mark.parametrize(
    ("host", "reached"),
    [("", [FOUR, SIX]), ("::", [SIX]), ("0.0.0.0", [FOUR]), ("127.0.0.1", []), ("::1", [])],
)
def test_an_instance_is_of_use_at_an_address_that_connections_to_its_sockets_may_have(
    host: str, reached: list[Vip]
) -> None:
    listeners = Listeners([ListenAddress(host, 0)], workers=1)
    unused: Any = None
    means = Means(unused, None, listeners.reached_by)
    listeners.close()
    assert [vip for vip in (FOUR, SIX) if means.deaf(vip) is None] == reached
    assert Means(unused, None, ["10.0.0.100:80", "[2001:db8::100]:80"]).deaf(FOUR) is None
    assert "nothing here listens on 10.0.0.100" in (Means(unused, None, ["10.0.0.1:80"]).deaf(FOUR) or "")
    assert Means(unused, None, []).deaf(Vip(address="10.0.0.100", announce="none")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
def test_a_virtual_ip_is_put_on_the_interface_that_the_kernel_reaches_its_network_by() -> None:
    import ipaddress

    from weldr.control.announce.kernel import KernelAnnouncer
    from weldr.control.announce.rtnetlink import HostAddress, Link, Seen

    def address(index: int, text: str) -> HostAddress:
        return HostAddress(index, ipaddress.ip_interface(text), marked=False, deprecated=False, lapses=False)

    links = [
        Link(index, f"eth{index}", "02:00:00:00:00:01", up=True, running=True, loopback=False)
        for index in (1, 2, 3)
    ]
    addresses = [address(1, "10.0.0.9/8"), address(2, "10.0.0.1/24"), address(3, "10.0.0.2/16")]
    netlink: Any = SimpleNamespace(seen=lambda: Seen(0.0, addresses, links))
    found = KernelAnnouncer("web", Vip(address="10.0.0.100"), netlink)._find_link()
    assert isinstance(found, Link)
    assert found.name == "eth2"


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
def test_an_interface_that_gets_another_mac_address_is_announced_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ipaddress

    from weldr.control.announce import kernel
    from weldr.control.announce.rtnetlink import HostAddress, Link, Seen

    told: list[str] = []

    class Neighbours:
        def __init__(self, link: Link, *rest: object) -> None:
            self.mac = link.mac

        def announce(self) -> None:
            told.append(self.mac)

        def close(self) -> None:
            pass

    def seen(mac: str) -> Any:
        link = Link(1, "bond0", mac, up=True, running=True, loopback=False)
        ours = HostAddress(1, ipaddress.ip_interface("10.0.0.100"), marked=True, deprecated=True, lapses=True)
        return lambda: Seen(0.0, [ours], [link])

    monkeypatch.setattr(kernel, "Neighbours", Neighbours)
    netlink: Any = SimpleNamespace(seen=seen("02:00:00:00:00:01"), set_address=lambda *arguments: None)
    announcer = kernel.KernelAnnouncer("web", Vip(address="10.0.0.100", interface="bond0"), netlink)
    announcer.acquire(7, 0.0)
    assert announcer.in_place()
    assert told == ["02:00:00:00:00:01"]
    netlink.seen = seen("02:00:00:00:00:02")
    assert announcer.in_place()
    assert announcer.in_place()
    assert told == ["02:00:00:00:00:01", "02:00:00:00:00:02"]


async def test_that_nobody_listens_there_is_a_problem_of_the_key() -> None:
    client: Any = None
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["10.0.0.1:80"], None, lambda: None, lambda: None)
    virtual_ips._make("web", FOUR)
    reason = "nothing here listens on 10.0.0.100: weldr was started with --listen 10.0.0.1:80"
    assert virtual_ips.problems() == [f"/weldr/vips/web: {reason}"]


async def test_what_weldr_left_behind_is_removed_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[set[str]] = []
    monkeypatch.setattr(HostWatch, "remove_stale", lambda self, held, ours: removed.append(ours))
    client: Any = None
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    virtual_ips._view.vips["web"] = WantedVip(FOUR, 1)
    await virtual_ips.stop("the end")
    assert removed == [{"10.0.0.100"}]
