"""A manager's life: when it begins to act for the instance, and how it ends.

| state | means | goes to |
| --- | --- | --- |
| waiting | only in an upgrade: serves the catalog, accepts nothing, acts for nobody | acting, ended |
| acting | accepts, holds virtual IPs, serves the admin port, writes its key | stopping, retired |
| stopping | not ready; accepts until the shutdown delay is over, then finishes what is in flight | ended |
| retired | another manager acts for the instance; finishes what is in flight | ended |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from weldr.control import service_manager
from weldr.control.admin.server import AdminServer
from weldr.control.control_socket import ControlSocket
from weldr.control.health.monitor import HealthMonitor
from weldr.control.listeners import Listeners
from weldr.control.manager_config import ManagerConfig
from weldr.control.presence import Presence
from weldr.control.upgrade.launch import NewProcess
from weldr.control.upgrade.succession import Upgrades
from weldr.control.upgrade.taking import TakeoverError, Taker
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.control.worker_pool import WorkerPool
from weldr.model.takeover import VipsState
from weldr.version import __version__

logger = logging.getLogger(__name__)

_RESTART_DELAY_S = 1.0
_PRESENCE_LIMIT_S = 3.0
_GIVE_UP_S = 5.0
_UNKNOWN_S = 1.0
"""For so long after an upgrade, whoever tells the old manager to stop may not have known of the new one."""
_TWICE_S = 5.0
"""For so long after an upgrade the new manager may be told twice, since the old one passes that on."""

Part = tuple[str, Callable[[], Awaitable[None]]]
"""A name for the log, and what runs for good."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a manager is made of, as far as its life is concerned."""

    listeners: Listeners
    admin_listeners: Listeners
    pool: WorkerPool
    checks: HealthMonitor
    virtual_ips: VirtualIps
    presence: Presence
    admin: AdminServer
    control: ControlSocket
    upgrades: Upgrades
    not_ready: Callable[[], str | None]
    """Why this instance should get no traffic."""
    always: Sequence[Part]
    """What follows etcd and serves the workers."""
    acting: Sequence[Part]
    """What acts for the instance."""


class StoppedEarlyError(Exception):
    """It was told to stop while there was nothing to stop but what was being started."""


class Life:
    """Signals work from the start on; `run` begins when there is something to run."""

    def __init__(self, config: ManagerConfig) -> None:
        self._config = config
        self.retired = False
        """Whether another manager acts for the instance, which was ready before it did."""
        self._stop = asyncio.Event()
        self._stop_delay_s = config.shutdown_delay_s
        self._hurry = asyncio.Event()
        """It is not to accept any longer, whatever the delay is."""
        self._loaded = asyncio.Event()
        self._acts = False
        self._admin_is_open = False
        self._holding: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._running = False
        self._took_over_s = -math.inf
        self._parts: Parts

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    async def unless_stopped(self, start: Coroutine[Any, Any, None]) -> None:
        """Wait for what comes before `run`.

        Raises `StoppedEarlyError`.
        """
        starting, stop = asyncio.create_task(start), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                raise StoppedEarlyError
            await starting
        finally:
            for task in (starting, stop):
                task.cancel()
            await asyncio.gather(starting, stop, return_exceptions=True)

    @property
    def loaded(self) -> bool:
        """Whether every worker has had a catalog in force."""
        return self._loaded.is_set()

    def note_loaded(self) -> None:
        """Every worker has a catalog in force."""
        if not self._loaded.is_set():
            self._loaded.set()
            logger.info("ready: every worker serves the catalog")
            self._tell_ready()

    def _tell_ready(self) -> None:
        if self._acts and self._loaded.is_set():
            # It waits for this word, and would end a service that never says it.
            words = {"READY": 1, "STATUS": f"weldr {__version__} serves"}
            self._tell_nothing()
            self._telling = asyncio.create_task(service_manager.notify_when_possible(**words))
        elif self._acts:
            service_manager.notify(STATUS="no worker serves yet: GET /readyz says what is missing")

    def _tell_nothing(self) -> None:
        """That it is ready, in case nobody has taken the word yet."""
        if self._telling is not None:
            self._telling.cancel()

    def handle_signals(self) -> None:
        """Of the event loop that runs."""
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal_number is signal.SIGHUP and signal.getsignal(signal_number) is signal.SIG_IGN:
                continue  # started under nohup, which means just that
            loop.add_signal_handler(signal_number, self._stop_or_kill, signal_number)
        loop.add_signal_handler(signal.SIGUSR2, self._upgrade_by_signal)

    @staticmethod
    def ignore_signals() -> None:
        """Nothing is left to stop, and an event loop that is being closed would answer them with tracebacks."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def _upgrade_by_signal(self) -> None:
        if self._acts and not self._stop.is_set() and not self.retired:
            self._parts.upgrades.begin()
            return
        reason = "it does not act for the instance yet"
        if self.retired:
            reason = "another manager has taken over"
        elif self._stop.is_set():
            reason = "it is stopping"
        logger.warning("a signal to upgrade was ignored", extra={"reason": reason})

    def stop(self, delay_s: float) -> None:
        """Stop in order, after `delay_s` in which it says that it is not ready but accepts."""
        self._stop_delay_s = delay_s
        if delay_s == 0:
            # Also where a delay has begun.
            self._hurry.set()
        self._stop.set()

    def _stop_or_kill(self, number: signal.Signals) -> None:
        just_took_over = asyncio.get_running_loop().time() < self._took_over_s + _TWICE_S
        if self._stop.is_set() and (self.retired or just_took_over) and number is signal.SIGTERM:
            # From systemd, which stops all, and once more who is left when the main process has ended; or from
            # the old manager.
            logger.info("asked to stop again: still finishing what is in flight")
            return
        if self._stop.is_set():
            logger.warning("asked to stop again: ending at once")
            self._hurry.set()
            if self._running:
                self._parts.pool.kill()
        self._stop.set()

    async def run(self, parts: Parts, taker: Taker | None) -> None:
        """All of it. `taker` is what there is to take over, if this manager was started for an upgrade."""
        self._parts, self._running = parts, True
        tasks = [_kept(part) for part in parts.always]
        if taker is not None:
            self._parts.pool.stand_by()
            self._parts.checks.assume_down(taker.known_down)
        pool = asyncio.create_task(self._parts.pool.run())
        stop = asyncio.create_task(self._stop.wait())
        try:
            heir = taker is None or await self._wait_to_act(taker, pool, stop)
            if heir:
                voice = await self._act(taker)
                tasks += voice
                retired = asyncio.create_task(self._parts.upgrades.wait_given())
                tasks.append(retired)
                await asyncio.wait({stop, pool, retired}, return_when=asyncio.FIRST_COMPLETED)
                if pool.done() and not stop.done():
                    # Without workers there is nothing to serve: whoever supervises this process starts it anew.
                    await pool
                if self._parts.upgrades.heir is None:
                    # One that is under way comes to nothing, unless the new manager acts by then.
                    await self._parts.upgrades.close()
                if (heir_process := self._parts.upgrades.heir) is None:
                    await self._finish()
                else:
                    await self._retire(voice, heir_process)
        finally:
            self._parts.pool.kill()
            self._tell_nothing()
            for task in (stop, pool, *tasks):
                task.cancel()
            await asyncio.gather(stop, pool, *tasks, return_exceptions=True)
            await self._parts.upgrades.end()
            await self._parts.virtual_ips.stop("weldr has failed")
            await self._close_admin()
            await self._parts.control.close()
            await self._parts.control.finish()

    async def _wait_to_act(self, taker: Taker, pool: asyncio.Task[None], stop: asyncio.Task[bool]) -> bool:
        """Whether the instance is this manager's now: the old one has handed it over, or has died."""
        told = asyncio.create_task(taker.wait_takeover())
        loaded = asyncio.create_task(self._loaded.wait())
        try:
            waits = {told, loaded, pool, stop}
            done, _ = await asyncio.wait(waits, timeout=taker.ready_in_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TakeoverError(f"the new manager was not ready in time: {self._parts.not_ready()}")
            if loaded.done() and not told.done():
                self._parts.virtual_ips.prepare()
                await taker.say_ready([*self._parts.listeners.groups, *self._parts.admin_listeners.groups])
                await asyncio.wait({told, pool, stop}, return_when=asyncio.FIRST_COMPLETED)
            return told.done()
        finally:
            for task in (told, loaded):
                task.cancel()
            await asyncio.gather(told, loaded, return_exceptions=True)

    async def _act(self, taker: Taker | None) -> list[asyncio.Task[None]]:
        """Begin to act for the instance; the tasks by which it does so."""
        for listeners in (self._parts.listeners, self._parts.admin_listeners):
            listeners.begin()
        if taker is not None:
            await self._adopt(taker)
        self._acts = True
        tasks = [_kept(part) for part in self._parts.acting]
        tasks.append(asyncio.create_task(service_manager.keep_alive()))
        if self._config.vips:
            self._holding = _kept(("virtual IPs", self._parts.virtual_ips.run))
            tasks.append(self._holding)
        self._admin_is_open = True
        await self._parts.admin.start()
        await self._parts.control.open(taker.control if taker is not None else None)
        if taker is not None:
            with contextlib.suppress(TimeoutError):
                # Until then the old manager keeps the key in being.
                async with asyncio.timeout(_PRESENCE_LIMIT_S):
                    await self._parts.presence.wait_written()
            self._took_over_s = asyncio.get_running_loop().time()
            await taker.say_done()
            extra = {"old_pid": taker.old_pid, "old_version": taker.old_version, "version": __version__}
            logger.info("this manager has taken over", extra=extra | {"pid": os.getpid()})
        self._tell_ready()
        return tasks

    async def _adopt(self, taker: Taker) -> None:
        """Go on with what the old manager has, and first with what cannot wait: an address that nobody renews
        lapses within a second."""
        state = await taker.wait_takeover()
        try:
            if isinstance(state, VipsState):
                await self._parts.virtual_ips.adopt(state, taker.peers)
            else:
                logger.warning("the old manager has died: this one acts in its place")
                await self._parts.virtual_ips.inherit(state, taker.peers)
        except BaseException:
            # Should the old one be alive, it goes on with them.
            await self._parts.virtual_ips.let_go()
            raise
        self._parts.pool.accept()
        if not self._config.vips:
            await self._parts.virtual_ips.stop("weldr holds no virtual IPs here any more")

    async def _finish(self) -> None:
        """The end of the instance."""
        self._tell_nothing()
        service_manager.notify(STOPPING=1, STATUS="finishing what is in flight")
        extra = {"shutdown_delay_s": self._stop_delay_s, "grace_s": self._config.grace_s}
        logger.info("stopping: finishing what is in flight", extra=extra)
        # Not ready any more, which has virtual IPs go to others, too; and those who ask for it need time.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_delay_s):
                await self._hurry.wait()
        # First: as long as an address is here, new requests for it arrive here.
        if self._holding is not None:
            self._holding.cancel()
        giving_up = asyncio.create_task(self._parts.virtual_ips.stop("weldr is stopping"))
        # But for a command that hangs: others have fetched its address by then.
        await asyncio.wait({giving_up}, timeout=_GIVE_UP_S)
        await self._parts.pool.drain(self._config.grace_s)
        await giving_up

    async def _close_admin(self) -> None:
        if self._admin_is_open:
            self._admin_is_open = False
            await self._parts.admin.close()

    async def _retire(self, voice: list[asyncio.Task[None]], heir: NewProcess) -> None:
        """Another manager acts for the instance: finish what is in flight here."""
        extra = {"drain_limit_s": self._config.drain_limit_s}
        self.retired = True
        passing_on = asyncio.create_task(self._pass_stop_on(heir))
        self._tell_nothing()
        logger.info("retired: finishing what is in flight", extra=extra)
        await self._parts.control.close()
        await self._parts.virtual_ips.let_go()
        for task in voice:
            task.cancel()
        closing = asyncio.create_task(self._close_admin())
        draining = asyncio.create_task(self._parts.pool.drain(self._config.drain_limit_s, patient=True))
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({draining, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            await self._parts.pool.drain(self._config.grace_s)
        stop.cancel()
        passing_on.cancel()
        await asyncio.gather(draining, closing, stop, passing_on, return_exceptions=True)

    async def _pass_stop_on(self, heir: NewProcess) -> None:
        """Who says stop to this one now means the instance."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_UNKNOWN_S):
                await self._stop.wait()
                heir.terminate()


def _kept(part: Part) -> asyncio.Task[None]:
    return asyncio.create_task(_kept_running(*part))


async def _kept_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run for good. A defect in one part must stop neither the traffic nor the part for ever."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("a part of the manager failed: it is started again", extra={"part": name})
        await asyncio.sleep(_RESTART_DELAY_S)
