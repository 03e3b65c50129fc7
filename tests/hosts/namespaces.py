"""Network namespaces as hosts: two networks, any number of hosts, links that can be cut.

The *front* network (10.77.0.0/24, fd77::/64) is where clients, virtual IPs and the other instances are; on the
*back* network (10.78.0.0/24) is etcd.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_numbers = itertools.count(1)
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def ip(*arguments: str, check: bool = True) -> str:
    """`ip ARGUMENTS…`."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def require_namespaces() -> None:
    """Skip the test where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        pytest.skip("the commands ip and nsenter are missing: install iproute2 and util-linux")
    done = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this system allows no network namespaces: {done.stderr.decode().strip()}")


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def enter(namespace: str) -> None:
    """Move this thread there, for good."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes meanwhile belong there."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        yield
    finally:
        _enter(before)
        os.close(before)


class Host:
    """One namespace."""

    def __init__(self, name: str, number: int, network: int) -> None:
        self.name = name
        self.number = number
        # Two networks may have a host of one name at a time.
        self.namespace = f"weldr{os.getpid()}-{network}-{name}"
        self.front = f"10.77.0.{number}"
        self.front6 = f"fd77::{number}"
        self.back = f"10.78.0.{number}"
        self.cut_s = -math.inf
        """When it was last cut off from the front network; as long as it is: for ever."""

    def ip(self, *arguments: str, check: bool = True) -> str:
        """`ip` in this host."""
        return ip("-n", self.namespace, *arguments, check=check)

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs in this host, and becomes the command without a process between."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", "--", *arguments]

    def block(self, *others: Host) -> None:
        """Nothing goes from here to those on the front network, nor comes back."""
        for other in others:
            for address in (other.front, other.front6):
                self.ip("route", "add", "blackhole", address)

    def unblock(self, *others: Host) -> None:
        """Undo `block`."""
        for other in others:
            for address in (other.front, other.front6):
                self.ip("route", "del", "blackhole", address, check=False)

    def give_front_addresses(self) -> None:
        """Those that it has from the start."""
        self.ip("addr", "add", f"{self.front}/24", "dev", "eth0")
        self.ip("addr", "add", f"{self.front6}/64", "dev", "eth0", "nodad")

    def link(self, interface: str, state: str) -> None:
        """Set a link `up` or `down`."""
        self.ip("link", "set", interface, state)


class Network:
    """Makes everything, and removes it."""

    def __init__(self) -> None:
        self.hosts: dict[str, Host] = {}
        self._number = next(_numbers)
        self._switch = f"weldr{os.getpid()}-{self._number}-switch"

    def __enter__(self) -> Network:
        ip("netns", "add", self._switch)
        for bridge in ("front", "back"):
            ip("-n", self._switch, "link", "add", bridge, "type", "bridge", "forward_delay", "0")
            ip("-n", self._switch, "link", "set", bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            ip("netns", "del", host.namespace, check=False)
        ip("netns", "del", self._switch, check=False)

    def add(self, name: str) -> Host:
        """A host on both networks."""
        host = self.hosts[name] = Host(name, len(self.hosts) + 1, self._number)
        ip("netns", "add", host.namespace)
        host.ip("link", "set", "lo", "up")
        with inside(host.namespace):
            # Inherited from the machine. A router may tell clients that an address is nowhere; a host is mute.
            Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
        for network, interface in (("front", "eth0"), ("back", "eth1")):
            self._connect(host, network, interface)
        host.give_front_addresses()
        host.ip("addr", "add", f"{host.back}/24", "dev", "eth1")
        return host

    def renew(self, host: Host) -> None:
        """The interface on the front network is removed, and made anew with the same addresses."""
        host.ip("link", "del", "eth0")
        self._connect(host, "front", "eth0")
        host.give_front_addresses()

    def _connect(self, host: Host, network: str, interface: str) -> None:
        far = f"{network}{host.number}"
        host.ip("link", "add", interface, "type", "veth", "peer", "name", far, "netns", self._switch)
        ip("-n", self._switch, "link", "set", far, "master", network, "up")
        host.link(interface, "up")

    def unplug(self, host: Host, network: str = "front") -> None:
        """The switch's end of the cable goes down: the host may see that its carrier is gone."""
        self._note_cut(host, network)
        ip("-n", self._switch, "link", "set", f"{network}{host.number}", "down")

    def plug(self, host: Host, network: str = "front") -> None:
        """Undo `unplug` and `isolate`."""
        ip("-n", self._switch, "link", "set", f"{network}{host.number}", "up", "master", network)
        if network == "front" and host.cut_s == math.inf:
            host.cut_s = time.monotonic()

    def isolate(self, host: Host, network: str = "front") -> None:
        """The switch forwards nothing of this host any more: it cannot see that."""
        self._note_cut(host, network)
        ip("-n", self._switch, "link", "set", f"{network}{host.number}", "nomaster")

    @staticmethod
    def _note_cut(host: Host, network: str) -> None:
        if network == "front":
            host.cut_s = math.inf

    def part(self, host: Host, apart: bool) -> None:
        """Hosts that are apart hear nothing of each other on the front network, and all others do of them."""
        port = f"front{host.number}"
        word = "on" if apart else "off"
        ip("-n", self._switch, "link", "set", port, "type", "bridge_slave", "isolated", word, check=False)


PROJECT = Path(__file__).resolve().parents[2]
