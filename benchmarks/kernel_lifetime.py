"""How late the kernel removes an address whose lifetime is over: alone, and when another is set meanwhile."""

from __future__ import annotations

import argparse
import ipaddress
import statistics
import time

from tests.hosts.namespaces import Host, Network, inside
from weldr.control.announce.rtnetlink import Rtnetlink
from weldr.etcd.clock import now_s

NAME = "lifetime"
_ADDRESSES = {"IPv4": "10.77.0.100/32", "IPv6": "fd77::100/128"}
_OTHERS = {4: "10.77.0.200/32", 6: "fd77::200/128"}
_LOOK_S = 0.002
_LIMIT_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=5, help="how often each")


def run(options: argparse.Namespace) -> None:
    print("| `valid_lft` | | alone: median, worst | another one set shortly before: median, worst |")
    print("| --- | --- | --- | --- |")
    with Network() as network:
        host = network.add("h1")
        with inside(host.namespace):
            netlink = Rtnetlink()
        for lifetime_s in (1, 2):
            for family, address in _ADDRESSES.items():
                alone = [_lasts_s(host, netlink, address, lifetime_s, None) for _ in range(options.times)]
                beside = [
                    # The kernel looks when an address is set, and then not before a second has passed.
                    _lasts_s(host, netlink, address, lifetime_s, lifetime_s - 0.02 * (number + 1))
                    for number in range(options.times)
                ]
                print(f"| {lifetime_s} s | {family} | {_words(alone)} | {_words(beside)} |", flush=True)
        netlink.close()


def _lasts_s(host: Host, netlink: Rtnetlink, address: str, lifetime_s: int, other_s: float | None) -> float:
    """For how long the address is there; `other_s` after it, another one is set."""
    time.sleep(1.5)
    (link,) = [link for link in netlink.links() if link.name == "eth0"]
    interface = ipaddress.ip_interface(address)
    other = ipaddress.ip_interface(_OTHERS[interface.version])
    began_s = now_s()
    netlink.set_address(link, interface, lifetime_s, began_s + _LIMIT_S, now_s)
    if other_s is not None:
        time.sleep(max(0.0, began_s + other_s - now_s()))
        netlink.set_address(link, other, 60, began_s + _LIMIT_S, now_s)
    while interface in {found.interface for found in netlink.addresses()}:
        time.sleep(_LOOK_S)
    lasted_s = now_s() - began_s
    netlink.delete_address(link.index, other)
    return lasted_s


def _words(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s, {max(seconds):.2f} s"
