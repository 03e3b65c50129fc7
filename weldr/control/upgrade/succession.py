"""The upgrades of a running manager: one at a time, asked for by a signal or by a command on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable

from weldr.control import service_manager
from weldr.control.control_socket import ControlError, Request
from weldr.control.upgrade.estate import Estate
from weldr.control.upgrade.giving import UpgradeError, Wish, give
from weldr.control.upgrade.launch import NewProcess, own_program

logger = logging.getLogger(__name__)

_OF_WELDR = ("WELDR_", "ETCDCTL_")


class Upgrades:
    """Owner of the state of `giving.py`."""

    def __init__(
        self, estate: Estate, stop: Callable[[float], None], shutdown_delay_s: float, *, embedded: bool
    ) -> None:
        """`stop` stops the manager after so many seconds in which it is not ready."""
        self._estate = estate
        self._stop = stop
        self._shutdown_delay_s = shutdown_delay_s
        self._embedded = embedded
        self._running: asyncio.Task[str] | None = None
        self._given = asyncio.Event()
        self._heir: NewProcess | None = None

    @property
    def heir(self) -> NewProcess | None:
        """The manager that acts for the instance in place of this one, also before anybody was told of it."""
        return self._heir

    async def wait_given(self) -> None:
        """Until another manager acts for the instance."""
        await self._given.wait()

    def begin(self) -> None:
        """Upgrade to what is installed now, with the command line of today."""
        if self._running is not None:
            logger.warning(
                "a signal to upgrade was ignored", extra={"reason": "an upgrade is under way already"}
            )
        else:
            self._running = asyncio.create_task(self._upgrade(Wish(arguments=_own_arguments())))
            self._running.add_done_callback(_look_at)

    async def handle(self, request: Request, trusted: bool, progress: Callable[[str], None]) -> str:
        """Carry out a command; see `Handler`."""
        if request.command == "stop":
            given = request.shutdown_delay_s
            delay_s = self._shutdown_delay_s if given is None else given
            self._stop(delay_s if request.drain else 0.0)
            progress("stopping: finishing what is in flight")
            await asyncio.Event().wait()
        if request.command != "upgrade":
            raise ControlError(f"this weldr does not know the command {request.command}")
        if self._running is not None:
            raise ControlError("an upgrade is under way already")
        self._running = running = asyncio.create_task(self._upgrade(wish_of(request, trusted)))
        self._running.add_done_callback(_look_at)
        progress("a new manager is started")
        try:
            return await asyncio.shield(running)
        except UpgradeError as error:
            raise ControlError(f"not upgraded, this weldr goes on as before: {error}") from None
        except asyncio.CancelledError:
            if running.cancelled():
                raise ControlError("not upgraded: this weldr was told to stop meanwhile") from None
            raise

    async def _upgrade(self, wish: Wish) -> str:
        try:
            if self._embedded:
                raise UpgradeError("an embedded etcd ends with the weldr that started it")
            service_manager.notify_reloading()
            self._heir = process = await give(self._estate, wish)
        except UpgradeError as error:
            await self._estate.forget_retirement()
            logger.error("not upgraded: this manager goes on as before", extra={"reason": str(error)})
            await service_manager.notify_surely(READY=1, STATUS=f"not upgraded: {error}")
            self._running = None
            raise
        # With a sign of life: the new one's did not count so far, and its next may be half of the limit away.
        await service_manager.notify_surely(MAINPID=process.pid, READY=1, WATCHDOG=1, STATUS="upgraded")
        self._given.set()
        return f"upgraded: the manager is process {process.pid} now"

    async def close(self) -> None:
        """Give up an upgrade that is not finished, and the name that was taken for it. One in which the new
        manager acts already is brought to its end: the service manager has to know of it."""
        running = self._running
        if running is not None and not running.done():
            if self._heir is None:
                running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        if self._heir is None:
            await self._estate.forget_retirement()

    async def end(self) -> None:
        """The same, for good."""
        await self.close()
        await self._estate.forget_retirement()
        if self._heir is not None:
            self._heir.close()
            self._heir = None


def _look_at(task: asyncio.Task[str]) -> None:
    """A failure was told."""
    if not task.cancelled():
        task.exception()


def _own_arguments() -> list[str]:
    return sys.argv[1:]


def wish_of(request: Request, trusted: bool) -> Wish:
    """What a command asks for. `trusted`: the caller can do all that the manager can. Raises `ControlError`."""
    named = request.arguments is not None or request.environment is not None
    if named and not trusted:
        raise ControlError(
            "only root may give arguments or an environment to a weldr that has capabilities: leave them out"
        )
    environment = dict(os.environ)
    if request.environment is not None:
        environment = {name: value for name, value in environment.items() if not name.startswith(_OF_WELDR)}
        environment |= {
            name: value for name, value in request.environment.items() if name.startswith(_OF_WELDR)
        }
    return Wish(
        program=request.program if request.program and trusted else own_program(),
        arguments=_own_arguments() if request.arguments is None else ["run", *request.arguments],
        environment=environment,
        limit_s=request.limit_s,
    )
