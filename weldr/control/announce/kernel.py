"""`announce: netlink`: the address is one of this host's, with a lifetime that only weldr's word prolongs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from weldr.control.announce.announcer import AnnounceError, LateError
from weldr.control.announce.connections import cut_connections
from weldr.control.announce.neighbours import Neighbours
from weldr.control.announce.rtnetlink import Link, Rtnetlink
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip

logger = logging.getLogger(__name__)

_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13
_IPV4_CONF = Path("/proc/sys/net/ipv4/conf")
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
        self._here_until_s = 0.0
        """When the kernel removes the address, unless it is set again."""
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
        if self._interface.version == 4 and self._interface.network.prefixlen < 32:
            try:
                _spare_secondaries(link.name)
            except OSError as error:
                return (
                    f"{self._interface} could take this host's own address of that network along:"
                    f" set sysctl net.ipv4.conf.{link.name}.promote_secondaries to 1, which weldr may not"
                    f" ({error.strerror or error}), or give the address without a prefix"
                )
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
        # An answer that does not come says nothing: from here on `release` removes it.
        self._link = link
        self._set(latest_s)
        speaker.announce()

    def placed(self) -> bool:
        """See `Announcer`."""
        return True

    def adopt(self, token: int, *, placed: bool) -> None:
        """See `Announcer`."""
        # From here on `release` removes it, whatever fails.
        there = self._link_that_has_it() or self._link_that_has_it(marked=False)
        self._link = there or self._usable_link()
        self._here_until_s = now_s() + self._lifetime_s
        # It may have lapsed on the way here, and be at another host by now.
        if there is not None:
            self._speaker(there).announce()

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        assert self._link is not None
        try:
            self._set(latest_s)
        except LateError:
            raise
        except AnnounceError:
            if not self._change_link():
                raise
            self._set(latest_s)
            self._speaker(self._link).announce()

    def failure(self) -> str | None:
        """See `Announcer`."""
        return None

    def in_place(self) -> bool:
        """See `Announcer`."""
        if self._link is None:
            return False
        seen, index = self._netlink.seen(), self._link.index
        there = any(
            address.index == index and address.interface == self._interface for address in seen.addresses
        )
        link = next((found for found in seen.links if found.index == index), None)
        if not there or link is None or not (link.up and link.running):
            return False
        if link.mac != self._link.mac:
            # As in a bond whose members have each their own: neighbours know the old one.
            self._link = link
            self._speaker(link).announce()
        return True

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

    async def released(self) -> None:
        """See `Announcer`."""

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
            self._neighbours = Neighbours(
                link, self._interface.ip, lambda: now_s() < self._here_until_s, self._tell_conflict
            )
        except OSError as error:
            raise AnnounceError(f"no packets can be sent on {link.name}: {error.strerror or error}") from None
        return self._neighbours

    def _tell_conflict(self, mac: str) -> None:
        logger.warning(
            "another host answers for a virtual IP that is held here: it is announced again",
            extra={"vip": self._name, "address": str(self._interface.ip), "mac": mac},
        )

    def _set(self, latest_s: float) -> None:
        assert self._link is not None
        now = now_s()
        self._netlink.set_address(self._link, self._interface, self._lifetime_s, latest_s, now_s)
        self._here_until_s = now + self._lifetime_s

    def _change_link(self) -> bool:
        """Whether there is another interface for the address now, such as one made anew under the same name.

        Raises `AnnounceError`.
        """
        assert self._link is not None
        self._netlink.forget_seen()
        if self.problem() is not None:
            return False
        link, self._usable = self._usable, None
        if link is None or link.index == self._link.index:
            return False
        # `release` knows of one interface only.
        self._netlink.delete_address(self._link.index, self._interface)
        self._link = link
        return True

    def _usable_link(self) -> Link:
        link = self._find_link()
        if isinstance(link, str):
            raise AnnounceError(link)
        return link

    def _find_link(self) -> Link | str:
        """The interface, or why there is none."""
        links = {link.index: link for link in self._netlink.seen().links}
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
        if self._interface.version == 6 and _is_ipv6_disabled(link.name):
            return f"IPv6 is disabled on {link.name}: sysctl net.ipv6.conf.{link.name}.disable_ipv6"
        return link

    def _link_that_has_it(self, *, marked: bool = True) -> Link | None:
        """The interface on which weldr has put the address. Kernels before 5.18 do not keep every mark: who
        knows that it was weldr need not look for it."""
        seen = self._netlink.seen()
        found = (each for each in seen.addresses if each.interface == self._interface)
        indexes = {each.index for each in found if each.marked or not marked}
        return next((link for link in seen.links if link.index in indexes), None)

    def _is_hosts_own(self) -> bool:
        """Whether somebody else has set it here: as ours it would go with our lease. (What is deprecated may be
        ours: kernels before 5.18 do not keep the mark of an IPv6 address.)"""
        return any(
            address.interface.ip == self._interface.ip and not address.marked and not address.deprecated
            for address in self._netlink.seen().addresses
        )

    def _links_of_network(self) -> list[int]:
        """Those with the longest prefix first, as the kernel routes."""
        ip = self._interface.ip
        found = [
            address
            for address in self._netlink.seen().addresses
            if not address.marked
            and address.interface.version == ip.version
            and ip in address.interface.network
            and ip != address.interface.ip
        ]
        found.sort(key=lambda address: address.interface.network.prefixlen, reverse=True)
        return [address.index for address in found]


def _spare_secondaries(link: str) -> None:
    """Of two addresses of one network the later is the other's secondary, and the kernel deletes it with that:
    it may be the host's own, if that was late or was put back. Unless this is set, as systemd does.

    Raises `OSError`.
    """
    settings = [_IPV4_CONF / name / "promote_secondaries" for name in ("all", link)]
    if not any(setting.read_text().strip() == "1" for setting in settings):
        settings[-1].write_text("1")


def _is_ipv6_disabled(link: str) -> bool:
    try:
        return Path("/proc/sys/net/ipv6/conf", link, "disable_ipv6").read_text().strip() == "1"
    except OSError:
        return not Path("/proc/sys/net/ipv6").exists() and Path("/proc/sys/net").exists()


def _has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
