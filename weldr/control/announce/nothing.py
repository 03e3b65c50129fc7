"""`announce: none`: leadership alone, for whoever reads it from etcd."""

from __future__ import annotations

from weldr.control.announce.announcer import LateError
from weldr.etcd.clock import now_s


class NoAnnouncer:
    """There is nothing to set; leadership ends by the clock alone."""

    def __init__(self) -> None:
        self._held = False

    def problem(self) -> str | None:
        """See `Announcer`."""
        return None

    async def conflict(self) -> str | None:
        """See `Announcer`."""
        return None

    def acquire(self, token: int, latest_s: float) -> None:
        """See `Announcer`."""
        self.renew(latest_s)
        self._held = True

    def placed(self) -> bool:
        """See `Announcer`."""
        return True

    def adopt(self, token: int, *, placed: bool) -> None:
        """See `Announcer`."""
        self._held = True

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        if now_s() > latest_s:
            raise LateError("too late to lead")

    def failure(self) -> str | None:
        """See `Announcer`."""
        return None

    def in_place(self) -> bool:
        """See `Announcer`."""
        return self._held

    def release(self, *, in_order: bool) -> None:
        """See `Announcer`."""
        self._held = False

    async def released(self) -> None:
        """See `Announcer`."""

    async def close(self) -> None:
        """See `Announcer`."""
