"""The old manager's side of an upgrade: it starts a new one, and gives it everything once it is ready.

| state | the old one | the new one | leaves it |
| --- | --- | --- | --- |
| idle | acts for the instance | is not there | asked -> starting |
| starting | acts | loads the catalog, starts workers that do not accept | `Ready` -> handing; else -> idle |
| handing | rests; its workers go on | is told `Takeover`, and acts | `Done` -> retired; else -> idle |
| retired | serves the connections that it has | acts | the last one's end, or the drain limit |

*Else* is the new one's end, its `Refusal`, or the time limit. While it rests, virtual IPs, messages and its key
are left alone. On the way back to idle the new one is killed first, and it is certain that it is gone: so there
are never two who act. If the old one dies while it is starting or handing, the new one sees the socket pair end
and acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from weldr.control.listeners import Group, Listeners
from weldr.control.upgrade import ENVIRONMENT
from weldr.control.upgrade.launch import LaunchError, NewProcess, launch, own_program
from weldr.control.upgrade.link import Link, LinkEndedError
from weldr.model.takeover import (
    PROTOCOL,
    Candidacy,
    Done,
    FromNew,
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

logger = logging.getLogger(__name__)

_OF_THE_FIRST_PROCESS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")
_HINTS_S = 0.2
_FREEZE_ATTEMPTS = 5
_HANDING_LIMIT_S = 10.0
_LAST_WORD_S = 3.0
"""When the limit is over, so long for the new manager to say what it lacks."""


class UpgradeError(Exception):
    """The old manager goes on; one line that says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be started."""

    program: Sequence[str] = field(default_factory=own_program)
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    limit_s: float = 60.0
    """How long the new manager may take to become ready."""


class Giver(Protocol):
    """What the manager does for an upgrade."""

    instance: str
    prefix: str
    listeners: Listeners
    admin_listeners: Listeners

    def control_descriptor(self) -> int | None:
        """The socket for commands on this machine."""

    def peer_descriptor(self) -> int | None:
        """The socket for messages between instances."""

    def hints(self) -> list[Candidacy]:
        """Places in queues for virtual IPs."""

    def known_down(self) -> KnownDown:
        """The backends that are down."""

    async def rest(self) -> VipsState:
        """Stop acting for the instance, so that another can.

        Raises `TimeoutError`; then nothing has changed.
        """

    def act(self) -> None:
        """Take `rest` back."""


async def give(giver: Giver, wish: Wish) -> NewProcess:
    """Start a new manager and hand everything to it; returns when the other one acts, and never takes it back.
    The process is the caller's to close.

    Raises `UpgradeError`; then the old one acts as before.
    """
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise UpgradeError(f"a new manager cannot be started: {error.strerror or error}") from None
    offer = Offer(
        protocol=PROTOCOL,
        version=__version__,
        pid=os.getpid(),
        instance=giver.instance,
        prefix=giver.prefix,
        listen=[_offered(group) for group in giver.listeners.groups],
        admin=[_offered(group) for group in giver.admin_listeners.groups],
        control=giver.control_descriptor(),
        peers=giver.peer_descriptor(),
        ready_by_s=time.monotonic() + wish.limit_s,
    )
    environment = {name: value for name, value in wish.environment.items() if name not in _OF_THE_FIRST_PROCESS}
    environment[ENVIRONMENT] = str(theirs.fileno())
    descriptors = [theirs.fileno(), *_descriptors(offer)]
    link: Link[FromNew] = Link(ours, FromNew)
    with theirs:
        try:
            # It has them before it runs: so it can act whenever this process dies.
            await link.send(offer)
            await link.send(giver.known_down())
            await link.send(Hints(candidacies=giver.hints()))
            process = await launch([*wish.program, *wish.arguments], environment, descriptors)
        except (LaunchError, LinkEndedError) as error:
            link.close()
            raise UpgradeError(str(error)) from None
    logger.info("upgrade: a new manager was started", extra={"pid": process.pid, "limit_s": wish.limit_s})
    try:
        await _hand_over(giver, wish, process, link)
    except BaseException as error:
        # First it has to be gone for certain: it may have begun to act.
        await asyncio.shield(process.kill())
        process.close()
        if isinstance(error, UpgradeError | asyncio.CancelledError):
            raise
        logger.exception("an upgrade failed")
        raise UpgradeError(f"it failed: {error}") from None
    finally:
        link.close()
    return process


async def _hand_over(giver: Giver, wish: Wish, process: NewProcess, link: Link[FromNew]) -> None:
    ready = await _until_ready(giver, wish, link)
    state = await _rest(giver)
    try:
        await link.send(Takeover(vips=state))
        answer = await _receive(link, _HANDING_LIMIT_S, "did not take over in time")
        if not isinstance(answer, Done):
            raise UpgradeError(_reason(answer))
    except BaseException as error:
        await asyncio.shield(process.kill())
        giver.act()
        if isinstance(error, LinkEndedError):
            raise UpgradeError("the new manager ended while it took over") from None
        raise
    taken = set(ready.taken)
    giver.listeners.share(taken)
    giver.admin_listeners.share(taken)


async def _until_ready(giver: Giver, wish: Wish, link: Link[FromNew]) -> Ready:
    try:
        receiving = asyncio.ensure_future(
            _receive(link, wish.limit_s + _LAST_WORD_S, f"was not ready within {wish.limit_s:g} s")
        )
        try:
            told: list[Candidacy] = []
            while not receiving.done():
                # Should this process die, the new one needs them; they seldom change.
                if told != (hints := giver.hints()):
                    told = hints
                    await link.send(Hints(candidacies=hints))
                await asyncio.wait({receiving}, timeout=_HINTS_S)
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        answer = receiving.result()
    except LinkEndedError:
        raise UpgradeError(
            "the new manager ended before it was ready: what it wrote to the log or to standard error says why"
        ) from None
    if not isinstance(answer, Ready):
        raise UpgradeError(_reason(answer))
    return answer


async def _rest(giver: Giver) -> VipsState:
    for _ in range(_FREEZE_ATTEMPTS):
        with contextlib.suppress(TimeoutError):
            return await giver.rest()
    raise UpgradeError(
        "virtual IPs cannot be handed over now: etcd is too slow, or a command that gives one up has not ended:"
        " try again later"
    )


async def _receive(link: Link[FromNew], limit_s: float, late: str) -> FromNew:
    try:
        async with asyncio.timeout(limit_s):
            return await link.receive()
    except TimeoutError:
        raise UpgradeError(f"the new manager {late}") from None


def _reason(answer: FromNew) -> str:
    return answer.reason if isinstance(answer, Refusal) else "the new manager speaks out of turn"


def _offered(group: Group) -> OfferedGroup:
    return OfferedGroup(
        asked=group.asked,
        address=group.address,
        descriptors=[listener.sock.fileno() for listener in group.listeners],
        activated=group.activated,
    )


def _descriptors(offer: Offer) -> list[int]:
    found = [number for group in (*offer.listen, *offer.admin) for number in group.descriptors]
    return found + [number for number in (offer.control, offer.peers) if number is not None]
