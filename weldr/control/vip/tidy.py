"""This host's addresses: watched for what others do to them, and cleared of what weldr left behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import ipaddress
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from weldr.control.announce.announcer import AnnounceError, Announcer
from weldr.model.vips import Vip

if TYPE_CHECKING:
    import socket

    from weldr.control.announce.rtnetlink import HostChanges, Rtnetlink

logger = logging.getLogger(__name__)

_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Another attempt may succeed."""

IpInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Unsupported:
    """Stands in for the kernel's announcer where there is no rtnetlink."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def problem(self) -> str | None:
        """See `Announcer`."""
        return self._reason

    async def conflict(self) -> str | None:
        """See `Announcer`."""
        return None

    def acquire(self, token: int, latest_s: float) -> None:
        """See `Announcer`."""
        raise AnnounceError(self.problem())

    def placed(self) -> bool:
        """See `Announcer`."""
        return True

    def adopt(self, token: int, *, placed: bool) -> None:
        """See `Announcer`."""
        raise AnnounceError(self.problem())

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        raise AnnounceError(self.problem())

    def failure(self) -> str | None:
        """See `Announcer`."""
        return None

    def in_place(self) -> bool:
        """See `Announcer`."""
        return False

    def release(self, *, in_order: bool) -> None:
        """See `Announcer`."""

    async def released(self) -> None:
        """See `Announcer`."""

    async def close(self) -> None:
        """See `Announcer`."""


class HostWatch:
    """Opened when the first virtual IP appears."""

    def __init__(self, on_change: Callable[[HostChanges], None]) -> None:
        """`on_change` is called when addresses or links have changed, by whomever."""
        self._on_change = on_change
        self._netlink: Rtnetlink | None = None
        self._changes: socket.socket | None = None
        self._failure = f"addresses can be set on Linux only, and this is {sys.platform}: use `announce: exec`"

    @staticmethod
    def load() -> None:
        """Import what is only needed where there is an address to set: it takes a third of a second."""
        if sys.platform == "linux":
            importlib.import_module("weldr.control.announce.kernel")

    def open(self) -> None:
        """Begin to watch."""
        if self._netlink is not None or sys.platform != "linux":
            return
        from weldr.control.announce.rtnetlink import Rtnetlink, changes_socket

        try:
            with contextlib.ExitStack() as opened:
                changes = changes_socket()
                opened.callback(changes.close)
                self._netlink = Rtnetlink()
                opened.pop_all()
        except OSError as error:
            if error.errno in _PASSING:
                raise
            # Rather a problem of the addresses of this host than the end of all virtual IPs.
            self._failure = (
                f"this process cannot use netlink ({error.strerror or error}): allow it, as with"
                " RestrictAddressFamilies=AF_NETLINK in its unit, or use `announce: exec`"
            )
            return
        self._changes = changes
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
            return Unsupported(self._failure)
        from weldr.control.announce.kernel import KernelAnnouncer

        return KernelAnnouncer(name, vip, self._netlink)

    def remove_stale(self, held: set[IpInterface], ours: set[str]) -> None:
        """Remove every address that weldr put there and does not hold. One that lapses if nobody renews it only
        if it is one of `ours`: a weldr of another prefix or etcd on this host marks its own alike."""
        if self._netlink is None:
            return
        for address in self._netlink.addresses():
            if not address.marked or address.interface in held:
                continue
            if address.lapses and str(address.interface.ip) not in ours:
                continue
            try:
                self._netlink.delete_address(address.index, address.interface)
            except AnnounceError as error:
                logger.warning("an old virtual IP stays behind", extra={"reason": str(error)})
            else:
                logger.warning("an old virtual IP was removed", extra={"address": str(address.interface)})

    def _take_changes(self) -> None:
        from weldr.control.announce.rtnetlink import take_changes

        if self._changes is None or self._netlink is None:
            return
        changes = take_changes(self._changes)
        if changes.removed or changes.added or changes.links:
            self._netlink.forget_seen()
            self._on_change(changes)
