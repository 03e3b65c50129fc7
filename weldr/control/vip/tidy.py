"""This host's addresses: watched for what others do to them, and cleared of what weldr left behind."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from weldr.control.announce.announcer import AnnounceError, Announcer
from weldr.model.vips import Vip

if TYPE_CHECKING:
    import socket

    from weldr.control.announce.rtnetlink import Rtnetlink

logger = logging.getLogger(__name__)

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Unsupported:
    """Stands in for the kernel's announcer on systems that have no rtnetlink."""

    def problem(self) -> str | None:
        """See `Announcer`."""
        return f"addresses can be set on Linux only, and this is {sys.platform}: use `announce: exec`"

    async def conflict(self) -> str | None:
        """See `Announcer`."""
        return None

    def acquire(self, token: int, latest_s: float) -> None:
        """See `Announcer`."""
        raise AnnounceError(self.problem())

    def adopt(self, token: int) -> None:
        """See `Announcer`."""
        raise AnnounceError(self.problem())

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        raise AnnounceError(self.problem())

    def in_place(self) -> bool:
        """See `Announcer`."""
        return False

    def release(self, *, in_order: bool) -> None:
        """See `Announcer`."""

    async def close(self) -> None:
        """See `Announcer`."""


class HostWatch:
    """Opened when the first virtual IP appears."""

    def __init__(self, on_change: Callable[[set[IpInterface]], None]) -> None:
        """`on_change` is called when addresses or links have changed, by whomever; it gets those removed."""
        self._on_change = on_change
        self._netlink: Rtnetlink | None = None
        self._changes: socket.socket | None = None

    def open(self) -> None:
        """Begin to watch."""
        if self._netlink is not None or sys.platform != "linux":
            return
        from weldr.control.announce.rtnetlink import Rtnetlink, changes_socket

        self._netlink = Rtnetlink()
        self._changes = changes_socket()
        asyncio.get_running_loop().add_reader(self._changes, self._take_changes)

    def close(self) -> None:
        """End."""
        if self._changes is not None:
            asyncio.get_running_loop().remove_reader(self._changes)
            self._changes.close()
        if self._netlink is not None:
            self._netlink.close()
        self._changes = self._netlink = None

    def announcer(self, name: str, vip: Vip) -> Announcer:
        """What sets this virtual IP on this host."""
        if self._netlink is None:
            return Unsupported()
        from weldr.control.announce.kernel import KernelAnnouncer

        return KernelAnnouncer(name, vip, self._netlink)

    def remove_stale(self, held: set[IpInterface]) -> None:
        """Remove every address that weldr put there and does not hold."""
        if self._netlink is None:
            return
        for address in self._netlink.addresses():
            if not address.marked or address.interface in held:
                continue
            try:
                self._netlink.delete_address(address.index, address.interface)
            except AnnounceError as error:
                logger.warning("an old virtual IP stays behind", extra={"reason": str(error)})
            else:
                logger.warning("an old virtual IP was removed", extra={"address": str(address.interface)})

    def _take_changes(self) -> None:
        from weldr.control.announce.rtnetlink import take_changes

        if self._changes is not None:
            self._on_change(take_changes(self._changes))
