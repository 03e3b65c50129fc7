"""The new manager's side of an upgrade: see `giving.py` and `weldr/model/takeover.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Sequence

from weldr.control.listeners import Group, Listener
from weldr.control.upgrade import ENVIRONMENT
from weldr.control.upgrade.link import Link, LinkEndedError
from weldr.model.frames import encode_frame
from weldr.model.health import BackendKey
from weldr.model.takeover import (
    PROTOCOL,
    Candidacy,
    Done,
    FromOld,
    Hints,
    KnownDown,
    Offer,
    OfferedGroup,
    Ready,
    Refusal,
    Takeover,
    VipsState,
)
from weldr.version import __version__

_OFFER_LIMIT_S = 10.0
_REFUSAL_LIMIT_S = 1.0
_MOST_CHARACTERS = 500


class TakeoverError(Exception):
    """There is nothing that this process can take over; one line."""


def refuse_early(reason: str) -> None:
    """Tell the old manager, if there is one, why this process ends before it has even asked what is offered."""
    number = os.environ.pop(ENVIRONMENT, "")
    if not number.isdigit():
        return
    with contextlib.suppress(OSError), _owned(int(number)) as sock:
        sock.settimeout(_REFUSAL_LIMIT_S)
        sock.sendall(encode_frame(Refusal(reason=reason[:_MOST_CHARACTERS])))


class Taker:
    """What the old manager gives. Its descriptors are ours from the start; what to do with them, it says."""

    def __init__(self, link: Link[FromOld], offer: Offer) -> None:
        self._link = link
        self._offer = offer
        self._candidacies: Sequence[Candidacy] = ()
        self._news = asyncio.Event()
        self._takeover: Takeover | None = None
        self.known_down: dict[BackendKey, str] = {}
        """Backends that do not pass the old one's checks; known once `open` has returned."""
        self.listen = [_group(group) for group in offer.listen]
        self.admin = [_group(group) for group in offer.admin]
        self.control = _socket(offer.control)
        self.peers = _socket(offer.peers)
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls) -> Taker | None:
        """What is offered to this process, if it was started for an upgrade.

        Raises `TakeoverError`.
        """
        number = os.environ.pop(ENVIRONMENT, "")
        if not number.isdigit():
            return None
        link: Link[FromOld] = Link(_owned(int(number)), FromOld)
        try:
            async with asyncio.timeout(_OFFER_LIMIT_S):
                offer, down = await link.receive(), await link.receive()
        except (LinkEndedError, TimeoutError, OSError) as error:
            raise TakeoverError(f"the manager that is to be upgraded says nothing: {error}") from None
        if not isinstance(offer, Offer) or not isinstance(down, KnownDown) or offer.protocol != PROTOCOL:
            reason = f"weldr {__version__} cannot take over from the version that runs: restart it instead"
            with contextlib.suppress(LinkEndedError):
                await link.send(Refusal(reason=reason))
            raise TakeoverError(reason)
        taker = cls(link, offer)
        taker.known_down = {each.key: each.reason for each in down.backends}
        taker._reading = asyncio.create_task(taker._read(), name="takeover")
        return taker

    @property
    def old_pid(self) -> int:
        """The manager that is to be replaced."""
        return self._offer.pid

    @property
    def ready_in_s(self) -> float | None:
        """How long this manager still has to become ready."""
        by_s = self._offer.ready_by_s
        return None if by_s is None else max(0.0, by_s - time.monotonic())

    @property
    def instance(self) -> str:
        """The instance's name."""
        return self._offer.instance

    @property
    def prefix(self) -> str:
        """Of the keys in etcd."""
        return self._offer.prefix

    @property
    def old_version(self) -> str:
        """Its version."""
        return self._offer.version

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._link.receive()
                if isinstance(frame, Hints):
                    self._candidacies = frame.candidacies
                elif isinstance(frame, Takeover):
                    self._takeover = frame
                    self._news.set()
        except LinkEndedError:
            self._news.set()

    async def refuse(self, reason: str) -> None:
        """Say why nothing comes of it."""
        with contextlib.suppress(LinkEndedError):
            await self._link.send(Refusal(reason=reason[:_MOST_CHARACTERS]))

    async def say_ready(self, taken: Sequence[Group]) -> None:
        """The workers serve. Of the descriptors that were offered, these are taken."""
        numbers = [listener.sock.fileno() for group in taken for listener in group.listeners]
        with contextlib.suppress(LinkEndedError):
            await self._link.send(Ready(version=__version__, taken=numbers))

    async def wait_takeover(self) -> VipsState | Sequence[Candidacy]:
        """Until this manager is to act: by what the old one handed over, or, if it has died, by what it had
        last told of its candidacies."""
        await self._news.wait()
        if self._takeover is not None:
            return self._takeover.vips
        return self._candidacies

    async def say_done(self) -> None:
        """This manager acts."""
        with contextlib.suppress(LinkEndedError):
            await self._link.send(Done())

    def close_untaken(self, taken: Sequence[Group]) -> None:
        """Close what was offered and is not needed: it is the old one's to end."""
        for group in (*self.listen, *self.admin):
            if group not in taken:
                for listener in group.listeners:
                    listener.sock.close()

    async def close(self) -> None:
        """End the conversation."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._link.close()


def _group(offered: OfferedGroup) -> Group:
    listeners = [Listener(_owned(number), shared=offered.activated) for number in offered.descriptors]
    return Group(offered.asked, offered.address, listeners, offered.activated)


def _socket(number: int | None) -> socket.socket | None:
    return None if number is None else _owned(number)


def _owned(number: int) -> socket.socket:
    sock = socket.socket(fileno=number)
    sock.set_inheritable(False)
    return sock
