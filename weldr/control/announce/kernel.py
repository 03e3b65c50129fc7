"""`announce: netlink`: the address is one of this host's, with a lifetime that only weldr's word prolongs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from weldr.control.announce.announcer import AnnounceError
from weldr.control.announce.connections import cut_connections
from weldr.control.announce.neighbours import Neighbours
from weldr.control.announce.rtnetlink import Link, Rtnetlink
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip

logger = logging.getLogger(__name__)

_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13
_REST_S = 0.005
"""By then it is on its way to etcd that the address is free: whoever waits for that need not wait for more."""


class KernelAnnouncer:
    """One virtual IP on this host."""

    def __init__(self, name: str, vip: Vip, netlink: Rtnetlink) -> None:
        self._name = name
        self._interface = vip.interface_address
        self._wanted_link = vip.interface
        self._lifetime_s = vip.lifetime_s
        self._may_replace = vip.on_conflict == "claim"
        self._netlink = netlink
        self._usable: Link | None = None
        """As `problem` found it."""
        self._link: Link | None = None
        self._neighbours: Neighbours | None = None
        self._cut = 0
        self._rest: asyncio.TimerHandle | None = None

    def problem(self) -> str | None:
        """See `Announcer`."""
        self._usable = None
        for capability, name in ((_CAP_NET_ADMIN, "CAP_NET_ADMIN"), (_CAP_NET_RAW, "CAP_NET_RAW")):
            if not _has_capability(capability):
                return f"this process lacks {name}: run weldr as root or give it that capability"
        if not self._may_replace and self._is_hosts_own():
            return f"{self._interface.ip} is an address of this host itself: choose one that no host has"
        link = self._find_link()
        if isinstance(link, str):
            return link
        self._usable = link
        return None

    async def conflict(self) -> str | None:
        """See `Announcer`."""
        mac = await self._speaker(self._usable_link()).probe()
        return f"the host with the MAC address {mac} answers for {self._interface.ip}" if mac else None

    def acquire(self, token: int, latest_s: float) -> None:
        """See `Announcer`."""
        self._cut_rest()
        link, self._usable = self._usable or self._usable_link(), None
        speaker = self._speaker(link)
        self._netlink.set_address(link, self._interface, self._lifetime_s, latest_s, now_s)
        self._link = link
        speaker.announce()

    def adopt(self, token: int) -> None:
        """See `Announcer`."""
        link = self._usable_link()
        self._speaker(link).announce()
        self._link = link

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        assert self._link is not None
        self._netlink.set_address(self._link, self._interface, self._lifetime_s, latest_s, now_s)

    def in_place(self) -> bool:
        """See `Announcer`."""
        link = self._link
        if link is None:
            return False
        there = any(
            address.index == link.index and address.interface == self._interface
            for address in self._netlink.addresses()
        )
        return there and any(
            found.index == link.index and found.up and found.running for found in self._netlink.links()
        )

    def release(self, *, in_order: bool) -> None:
        """See `Announcer`."""
        if self._neighbours is not None:
            self._neighbours.stop()
        if self._link is None:
            return
        # The resets need the address to leave from, but an address that must not be here waits for nothing.
        self._cut = cut_connections(self._interface.ip) if in_order else 0
        self._netlink.delete_address(self._link.index, self._interface)
        self._link = None
        self._rest = asyncio.get_running_loop().call_later(_REST_S, self._cut_rest)

    async def close(self) -> None:
        """See `Announcer`."""
        self._cut_rest()
        self._close_neighbours()

    def _cut_rest(self) -> None:
        """Those that came between the first cut, if there was one, and the end of the address."""
        if self._rest is None:
            return
        self._rest.cancel()
        self._rest = None
        cut = self._cut + cut_connections(self._interface.ip)
        if cut:
            logger.info("connections to a virtual IP were reset", extra={"vip": self._name, "connections": cut})

    def _close_neighbours(self) -> None:
        if self._neighbours is not None:
            self._neighbours.close()
            self._neighbours = None

    def _speaker(self, link: Link) -> Neighbours:
        # Anew each time: the interface may be another one of the same name.
        self._close_neighbours()
        try:
            self._neighbours = Neighbours(link, self._interface.ip, self._tell_conflict)
        except OSError as error:
            raise AnnounceError(f"no packets can be sent on {link.name}: {error.strerror or error}") from None
        return self._neighbours

    def _tell_conflict(self, mac: str) -> None:
        logger.warning(
            "another host answers for a virtual IP that is held here: it is announced again",
            extra={"vip": self._name, "address": str(self._interface.ip), "mac": mac},
        )

    def _usable_link(self) -> Link:
        link = self._find_link()
        if isinstance(link, str):
            raise AnnounceError(link)
        return link

    def _find_link(self) -> Link | str:
        """The interface, or why there is none."""
        links = {link.index: link for link in self._netlink.links()}
        if self._wanted_link is not None:
            found = [link for link in links.values() if link.name == self._wanted_link]
            if not found:
                return f"this host has no interface {self._wanted_link}"
        else:
            found = [links[index] for index in self._links_of_network() if index in links]
            if not found:
                return (
                    f"no interface of this host has a network that contains {self._interface.ip}:"
                    " name one with `interface`"
                )
        link = found[0]
        if link.loopback:
            return f"{link.name} is the loopback interface: nobody else could reach {self._interface.ip} there"
        if not link.up:
            return f"the interface {link.name} is down"
        if not link.running:
            return f"the interface {link.name} has no carrier"
        return link

    def _is_hosts_own(self) -> bool:
        """Whether somebody else has set it here: as ours it would go with our lease. (What is deprecated may be
        ours: kernels before 5.18 do not keep the mark of an IPv6 address.)"""
        return any(
            address.interface.ip == self._interface.ip and not address.marked and not address.deprecated
            for address in self._netlink.addresses()
        )

    def _links_of_network(self) -> list[int]:
        ip = self._interface.ip
        return [
            address.index
            for address in self._netlink.addresses()
            if not address.marked
            and address.interface.version == ip.version
            and ip in address.interface.network
            and ip != address.interface.ip
        ]


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
