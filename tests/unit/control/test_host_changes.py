"""What the kernel tells of this host: weldr sets its own addresses several times a second, and must not answer
each of these with a look at the whole host."""

from __future__ import annotations

import socket
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("rtnetlink is Linux's", allow_module_level=True)

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from weldr.control.announce.rtnetlink import PROTOCOL, HostChanges, Rtnetlink, take_changes

NEWLINK, NEWADDR, DELADDR = 16, 20, 21


def address(kind: int, *attributes: tuple[str, object]) -> bytes:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET, 32, 2
    message["attrs"] = [("IFA_LOCAL", "10.0.0.100"), ("IFA_ADDRESS", "10.0.0.100"), *attributes]
    return encoded(message, kind)


def encoded(message: ifaddrmsg | ifinfmsg, kind: int) -> bytes:
    message["header"]["type"] = kind
    message.encode()
    return bytes(message.data)


def told(*messages: bytes) -> HostChanges:
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with kernel, ours:
        ours.setblocking(False)
        for message in messages:
            kernel.send(message)
        return take_changes(ours)


def test_an_address_that_weldr_renews_is_no_change() -> None:
    assert told(address(NEWADDR, ("IFA_PROTO", PROTOCOL))) == HostChanges()
    assert told(address(NEWADDR, ("IFA_LABEL", "eth0:weldr"))) == HostChanges()


def test_what_others_do_is_one() -> None:
    assert told(address(NEWADDR)) == HostChanges(added=True)
    removed = told(address(DELADDR, ("IFA_PROTO", PROTOCOL)))
    assert list(map(str, removed.removed)) == ["10.0.0.100/32"]
    assert told(encoded(ifinfmsg(), NEWLINK)) == HostChanges(links=True)


def test_many_virtual_ips_look_at_the_host_once(monkeypatch: pytest.MonkeyPatch) -> None:
    netlink, looks = Rtnetlink(), []

    def look() -> list[object]:
        looks.append(1)
        return []

    monkeypatch.setattr(netlink, "addresses", look)
    monkeypatch.setattr(netlink, "links", list)
    for _ in range(64):
        netlink.seen()
    assert len(looks) == 1
    netlink.forget_seen()
    netlink.seen()
    assert len(looks) == 2
    netlink.close()
