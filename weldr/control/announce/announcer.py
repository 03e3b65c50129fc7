"""What every way to announce a virtual IP has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class AnnounceError(Exception):
    """The address cannot be put in place here. One line that says what to do."""


class LateError(AnnounceError):
    """It was too late to set the address: another instance may hold it by now. It is not there."""


class Announcer(Protocol):
    """One virtual IP's. Its owner decides when; none of these waits for anything slow."""

    def problem(self) -> str | None:
        """Why this host cannot hold the address now, in one line that says what to do."""

    async def conflict(self) -> str | None:
        """Who else answers for the address, asked of the network; takes a moment."""

    def acquire(self, token: int, latest_s: float) -> None:
        """Put the address in place, by `latest_s` of `weldr.etcd.clock`.

        Raises `AnnounceError`; then nothing is left behind.
        """

    def placed(self) -> bool:
        """Whether what `acquire` began is done."""

    def adopt(self, token: int, *, placed: bool) -> None:
        """Go on with the address that another manager on this host has put in place, or was about to if it is
        not `placed`: `renew` is what follows.

        Raises `AnnounceError`.
        """

    def renew(self, latest_s: float) -> None:
        """The same again, for another lifetime. Raises `AnnounceError`; then the address is gone."""

    def failure(self) -> str | None:
        """What has come to nothing, in one line, though it keeps this host from nothing: the address may be
        missing here, or still point here."""

    def in_place(self) -> bool:
        """Whether it is there. Somebody else may have removed it."""

    def release(self, *, in_order: bool) -> None:
        """Take it away, and cut the connections to it. It may be gone already.

        `in_order`: there is time to tell its clients first.
        """

    async def released(self) -> None:
        """Return when nothing that `release` began is under way any more."""

    async def close(self) -> None:
        """End what runs in the background, once `release` has been called."""


MakeAnnouncer = Callable[[str], Announcer]
