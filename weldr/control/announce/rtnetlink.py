"""This host's addresses and links, over rtnetlink.

pyroute2 writes and reads the messages. The socket is our own, since an address must be set only if the clock
says so at that very moment: nothing may lie between the look at the clock and the system call.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from weldr.control.announce.announcer import AnnounceError, LateError
from weldr.model.vip_timing import MAX_TTL_S

PROTOCOL = 87
"""Marks addresses as weldr's (`ip -d addr` shows it as `proto 87`), on Linux 5.18 and newer."""
LABEL = ":weldr"
"""Marks IPv4 addresses on older kernels, too: the end of their label."""

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLM_F_REPLACE, _NLM_F_CREATE = 0x100, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_IFA_F_NODAD, _IFA_F_DEPRECATED, _IFA_F_NOPREFIXROUTE = 0x02, 0x20, 0x200
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3
_HEAD = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_LINK = struct.Struct("=xxxxiI")
"""Family, type, index and flags; behind them is a mask of `_CHANGE_BYTES`."""
_CHANGE_BYTES = 4
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER_BYTES = 1 << 17
_TIMEOUT_S = 2.0
_MAX_LABEL_BYTES = 15
_SEEN_S = 0.5
_FOR_EVER = 0xFFFFFFFF
_NOT_THERE = (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO)

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface."""

    index: int
    name: str
    mac: str
    up: bool
    running: bool
    """Whether it has a carrier."""
    loopback: bool


@dataclass(frozen=True, slots=True)
class HostAddress:
    """An address of this host."""

    index: int
    interface: IpInterface
    marked: bool
    """Whether weldr put it there."""
    deprecated: bool
    """As weldr's are from the start."""
    lapses: bool
    """Whether the kernel removes it soon unless it is renewed, as it does weldr's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What this host had at one moment."""

    at_s: float
    addresses: list[HostAddress]
    links: list[Link]


class Rtnetlink:
    """Requests are answered by the kernel at once, so these block for microseconds."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._socket.settimeout(_TIMEOUT_S)
        self._marshal = MarshalRtnl()
        self._numbers = itertools.count(1)
        self._seen: Seen | None = None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def links(self) -> list[Link]:
        """All of them. A host of containers has hundreds, and nothing is renewed meanwhile: to decode all that
        is told of them would take too long."""
        self._socket.send(self._encoded(ifinfmsg(), _RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP))
        found: list[Link] = []
        while True:
            data = memoryview(self._socket.recv(_BUFFER_BYTES))
            while len(data) >= _HEAD.size:
                length, kind, _, number, _ = _HEAD.unpack_from(data)
                body, data = data[_HEAD.size : length], data[max(_HEAD.size, (length + 3) & ~3) :]
                if number != self._number:
                    continue
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR:
                    code = -_ERROR.unpack_from(body)[0]
                    raise OSError(code, os.strerror(code))
                found.append(_link_of(body))

    def addresses(self) -> list[HostAddress]:
        """All of them."""
        return [_address_of(found) for found in self._ask(ifaddrmsg(), _RTM_GETADDR)]

    def seen(self) -> Seen:
        """Addresses and links, as they were a moment ago at most: a look takes milliseconds, and many virtual
        IPs look at the same things."""
        now = time.monotonic()
        if self._seen is None or now - self._seen.at_s > _SEEN_S:
            self._seen = Seen(now, self.addresses(), self.links())
        return self._seen

    def forget_seen(self) -> None:
        """Something has changed."""
        self._seen = None

    def set_address(
        self,
        link: Link,
        interface: IpInterface,
        lifetime_s: int,
        latest_s: float,
        clock: Callable[[], float],
    ) -> None:
        """Add the address, or start its lifetime anew; not after `latest_s` by `clock`.

        It is deprecated from the start, so that it never becomes the source of this host's own connections.

        Raises `AnnounceError`, and `LateError` if it was too late; then the address is gone.
        """
        message = self._address(link.index, interface)
        message["flags"] = _IFA_F_NODAD
        message["attrs"] += [
            ("IFA_FLAGS", _IFA_F_NODAD | _IFA_F_NOPREFIXROUTE),
            ("IFA_CACHEINFO", {"ifa_preferred": 0, "ifa_valid": lifetime_s, "cstamp": 0, "tstamp": 0}),
            ("IFA_PROTO", PROTOCOL),
        ]
        if interface.version == 4 and len(label := link.name + LABEL) <= _MAX_LABEL_BYTES:
            message["attrs"].append(("IFA_LABEL", label))
        flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_REPLACE | _NLM_F_CREATE
        data = self._encoded(message, _RTM_NEWADDR, flags)
        seen = self._seen
        if seen is not None and all((a.index, a.interface) != (link.index, interface) for a in seen.addresses):
            self._seen = None
        # A process that is stopped exactly here, and goes on when another one holds the address, sets it all
        # the same. Hence the second look at the clock: what came too late is taken back at once.
        early = clock() <= latest_s
        if early:
            self._socket.send(data)
            early = clock() <= latest_s
            self._take_answer(f"{interface} cannot be set on {link.name}")
        if not early:
            self.delete_address(link.index, interface)
            raise LateError(f"too late to set {interface} on {link.name}")

    def delete_address(self, index: int, interface: IpInterface) -> None:
        """Remove the address, whether it is there or not.

        Raises `AnnounceError`.
        """
        self._seen = None
        message = self._address(index, interface)
        self._socket.send(self._encoded(message, _RTM_DELADDR, _NLM_F_REQUEST | _NLM_F_ACK))
        self._take_answer(f"{interface} cannot be removed", _NOT_THERE)

    def _address(self, index: int, interface: IpInterface) -> Any:
        message = ifaddrmsg()
        message["family"] = socket.AF_INET if interface.version == 4 else socket.AF_INET6
        message["prefixlen"] = interface.network.prefixlen
        message["index"] = index
        text = str(interface.ip)
        message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
        return message

    def _encoded(self, message: Any, kind: int, flags: int) -> bytes:
        message["header"]["type"] = kind
        message["header"]["flags"] = flags
        message["header"]["pid"] = 0
        message["header"]["sequence_number"] = self._number = next(self._numbers)
        message.encode()
        return bytes(message.data)

    def _take_answer(self, failure: str, harmless: tuple[int, ...] = ()) -> None:
        try:
            for _ in self._answers():
                pass
        except OSError as error:
            if error.errno not in harmless:
                raise AnnounceError(f"{failure}: {error.strerror or error}") from None

    def _ask(self, message: Any, kind: int) -> Iterator[Any]:
        self._socket.send(self._encoded(message, kind, _NLM_F_REQUEST | _NLM_F_DUMP))
        # All of it before anything is handed on: the next request must not find the rest of this answer.
        return iter(list(self._answers()))

    def _answers(self) -> Iterator[Any]:
        while True:
            data = self._socket.recv(_BUFFER_BYTES)
            for message in self._marshal.parse(data):
                header = message["header"]
                if header["sequence_number"] != self._number:
                    continue
                if header["type"] == _NLMSG_DONE:
                    return
                if header["type"] == _NLMSG_ERROR:
                    code = getattr(header["error"], "code", 0)
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield message


def changes_socket() -> socket.socket:
    """Becomes readable whenever an address or a link of this host changes."""
    changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    changes.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    changes.setblocking(False)
    return changes


@dataclass(slots=True)
class HostChanges:
    """What has changed, by whomever, but for addresses that weldr set: it does so many times a second."""

    removed: set[IpInterface] = field(default_factory=set)
    """The addresses that are gone."""
    added: bool = False
    """Whether there are addresses that were not there, or are other ones now."""
    links: bool = False
    """Whether an interface may have changed."""


def take_changes(changes: socket.socket) -> HostChanges:
    """Read what has changed."""
    found = HostChanges()
    marshal = MarshalRtnl()
    while True:
        try:
            data = changes.recv(_BUFFER_BYTES)
        except BlockingIOError:
            return found
        except OSError:  # too many at once: the kernel dropped some, and only a look at the whole tells what
            found.added = found.links = True
            continue
        if not data:
            return found
        for message in marshal.parse(data):
            kind = message["header"]["type"]
            if kind == _RTM_DELADDR:
                found.removed.add(_interface_of(message))
            elif kind != _RTM_NEWADDR:
                found.links = True
            elif not ((address := _address_of(message)).marked or address.deprecated):
                found.added = True


def _link_of(body: memoryview) -> Link:
    """From a `struct ifinfomsg` and what follows it."""
    index, flags = _LINK.unpack_from(body)
    name, mac = b"", b""
    rest = body[_LINK.size + _CHANGE_BYTES :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        value = rest[_ATTRIBUTE.size : length]
        if kind == _IFLA_IFNAME:
            name = bytes(value).rstrip(b"\0")
        elif kind == _IFLA_ADDRESS:
            mac = bytes(value)
        rest = rest[max(_ATTRIBUTE.size, (length + 3) & ~3) :]
    return Link(
        index=index,
        name=name.decode("utf-8", "replace"),
        mac=mac.hex(":"),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_RUNNING),
        loopback=bool(flags & _IFF_LOOPBACK),
    )


def _address_of(message: Any) -> HostAddress:
    return HostAddress(
        index=message["index"],
        interface=_interface_of(message),
        marked=message.get_attr("IFA_PROTO") == PROTOCOL
        or (message.get_attr("IFA_LABEL") or "").endswith(LABEL),
        deprecated=bool(message["flags"] & _IFA_F_DEPRECATED),
        lapses=_valid_s(message) <= MAX_TTL_S,
    )


def _valid_s(message: Any) -> int:
    """How long it is to be there; the greatest number of 32 bits for ever."""
    times = message.get_attr("IFA_CACHEINFO")
    return times["ifa_valid"] if times else _FOR_EVER


def _interface_of(message: Any) -> IpInterface:
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ipaddress.ip_interface(f"{text}/{message['prefixlen']}")
