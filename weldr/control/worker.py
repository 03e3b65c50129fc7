"""One worker slot: a process that serves, and its replacement when that process dies.

States of a slot:

| state    | meaning                                  | leaves it                                     |
|----------|------------------------------------------|-----------------------------------------------|
| starting | runs, but has not applied a catalog      | `Applied` -> serving; exit -> waiting         |
| serving  | accepts, and serves what it was sent     | exit, no beat -> waiting; drain -> draining   |
| waiting  | no process; the next starts after a time | back-off over -> starting; drain -> draining, |
|          |                                          | with a last process for what is queued        |
| draining | finishes what is in flight               | exit -> ended                                 |
| ended    | no process, and no next one              |                                               |

The listening sockets belong to the slot and not to its process, so connections queue up while none runs.
Before an upgrade is decided a new manager's slots are in *standby*: their workers serve, but do not accept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping
from enum import StrEnum

from weldr.control.listeners import Listener, take_no_more
from weldr.control.statistics import Statistics
from weldr.control.worker_channel import WorkerChannel
from weldr.model.catalog import Catalog
from weldr.model.frames import (
    Accept,
    Applied,
    Beat,
    Drain,
    Health,
    InFlight,
    Loads,
    Silent,
    Sparing,
    Standby,
    Update,
    Upward,
    encode_frame,
)
from weldr.model.health import BackendKey, Standing
from weldr.model.traffic import Traffic, difference

logger = logging.getLogger(__name__)

BEAT_LIMIT_S = 10.0
"""A worker whose event loop gave no sign for this long is killed and replaced."""
START_LIMIT_S = 60.0
"""The same for its first sign. Where there are many workers for each core, all of them start at once, and to
kill them for that would have them start again, all at once."""
_STABLE_S = 10.0
_BACKOFF_FIRST_S = 0.1
_BACKOFF_LIMIT_S = 5.0
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(8 << 20), "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""For glibc, which else gives the memory of each piece of a body back to the kernel, and gets it again page by
page with the next one: half of the cost of a response of 64 KiB. A worker may keep these 8 MiB for good."""
_OF_THE_MANAGER = ("WELDR_", "ETCDCTL_")
"""Variables that say how to get into etcd, among others: of no use to a worker, which talks to strangers."""


class SlotState(StrEnum):
    """See the module's table."""

    STARTING = "starting"
    SERVING = "serving"
    WAITING = "waiting"
    DRAINING = "draining"
    ENDED = "ended"


class WorkerSlot:
    """Keeps one worker running and up to date. `on_change` is called when anything below has changed."""

    def __init__(
        self,
        name: str,
        listeners: list[Listener],
        arguments: list[str],
        catalog: Callable[[], Catalog | None],
        statistics: Statistics,
        standings: Callable[[], Mapping[BackendKey, Standing]],
        on_change: Callable[[], None],
        on_sparing: Callable[[str, Sparing | None], None],
        on_silent: Callable[[Silent], None],
    ) -> None:
        """`catalog` returns today's catalog, or `None` before the first; `standings` the backends that are
        anything but up. `on_sparing` is told, with this slot's name, whom the worker spares, and `None` when it
        is gone.
        """
        self.name = name
        self.state = SlotState.WAITING
        self.starts = 0
        """How often a process was started."""
        self.applied_at_s = 0.0
        """Since when it serves that, by the wall clock; 0 before it serves anything."""
        self.applied_revision = 0
        """The configuration that this worker serves; 0 while it serves none."""
        self.in_flight: dict[tuple[str, str], int] = {}
        """Requests to backends that get no new ones, as the worker last said."""
        self.beat: Beat | None = None
        self.sparing: Sparing | None = None
        """The last word on whom it spares."""
        self.loads: list[tuple[str, str, int]] = []
        """Requests in flight by service and backend, as the worker last said."""
        self.beat_at_s = 0.0
        self.pid: int | None = None
        self._listeners = listeners
        self._arguments = arguments
        self._catalog = catalog
        self._statistics = statistics
        self._standings = standings
        self._on_change = on_change
        self._on_sparing = on_sparing
        self._on_silent = on_silent
        self._channel: WorkerChannel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._sent: Traffic | None = None
        self._sent_standings: Mapping[BackendKey, Standing] = {}
        self._unacknowledged = 0
        self._last_sign_s = 0.0
        self._is_silent = True
        """Whether the process has given no sign since it was started."""
        self._drain: Drain | None = None
        self._drained = asyncio.Event()
        self._given_up = False
        self._standby = False

    async def run(self) -> None:
        """Start the worker, and another one whenever it dies, until it has been drained."""
        backoff_s = _BACKOFF_FIRST_S
        loop = asyncio.get_running_loop()
        try:
            while True:
                last = self._drain is not None
                started_s = loop.time()
                await self._live()
                if last or self._is_over:
                    return
                if loop.time() - started_s >= _STABLE_S:
                    backoff_s = _BACKOFF_FIRST_S
                # Also before the first replacement: a worker that dies at once must not spin.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff_s * random.uniform(0.5, 1.0)):
                        await self._drained.wait()
                backoff_s = min(backoff_s * 2, _BACKOFF_LIMIT_S)
                if self._is_over:
                    return
        finally:
            self._close_listeners()
            self._set_state(SlotState.ENDED)

    @property
    def _is_over(self) -> bool:
        """Whether there is no next process."""
        return self._given_up or self.state is SlotState.DRAINING

    async def _live(self) -> None:
        """One process, from its start to its end. Whatever goes wrong with it harms this slot only."""
        try:
            process = await self._start()
        except OSError as error:
            logger.error("a worker cannot be started", extra={"worker": self.name, "reason": str(error)})
            return
        except Exception:
            logger.exception("a worker cannot be started", extra={"worker": self.name})
            self.kill()
            if self._process is None:
                return
            process = self._process
        status = await process.wait()
        self._lost(status)

    async def _start(self) -> asyncio.subprocess.Process:
        mine, theirs = socket.socketpair()
        with theirs:
            fds = [theirs.fileno(), *(listener.sock.fileno() for listener in self._listeners)]
            command = [sys.executable, "-P", "-m", "weldr.proxy", "--name", self.name]
            command += ["--channel-fd", str(fds[0])]
            for fd in fds[1:]:
                command += ["--listen-fd", str(fd)]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    *self._arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=fds,
                    env=_environment(),
                )
            except OSError:
                mine.close()
                raise
        loop = asyncio.get_running_loop()
        _, self._channel = await loop.connect_accepted_socket(
            lambda: WorkerChannel(self._frame, self.publish), mine
        )
        self._process = process
        self.pid = process.pid
        self.starts += 1
        self._sent = None
        self._sent_standings = {}
        self._unacknowledged = 0
        self._last_sign_s = loop.time()
        self._is_silent = True
        self._set_state(SlotState.STARTING)
        logger.debug("worker started", extra={"worker": self.name, "pid": process.pid})
        if self._standby:
            self._channel.send(encode_frame(Standby()))
        self.publish()
        if self._drain is not None:
            self._send_drain(self._drain)
        if self._given_up:
            # While it was being started.
            self.kill()
        return process

    def _lost(self, status: int) -> None:
        pid, self.pid, self._process = self.pid, None, None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.applied_revision = 0
        self.applied_at_s = 0.0
        self.in_flight = {}
        self.beat = None
        self.sparing = None
        self.loads = []
        self._on_sparing(self.name, None)
        if not self._is_over:
            logger.error(
                "a worker died: it is replaced", extra={"worker": self.name, "pid": pid, "status": status}
            )
            self._set_state(SlotState.WAITING)

    def publish(self) -> None:
        """Send what changed since the last time, unless the worker is still reading that.

        So a worker that is slow or frozen is owed one difference, however much changes meanwhile.
        """
        catalog, channel = self._catalog(), self._channel
        if catalog is None or channel is None or not channel.writable:
            return
        standings = self._standings()
        worse, better = _standing_changes(self._sent_standings, standings)
        if self._sent is not None and self._sent is catalog.traffic:
            if worse or better:
                channel.send(encode_frame(Health(worse + better)))
                self._sent_standings = standings
            self._acknowledge(catalog.configuration_revision)
            return
        delta = difference(self._sent or Traffic(), catalog.traffic)
        # Before anything is noted as sent: what cannot be encoded must not count.
        frame = encode_frame(Update(catalog.configuration_revision, delta))
        # Around the update: a new backend that has to pass a check first never has a moment without that mark.
        before = encode_frame(Health(worse)) if worse else b""
        after = encode_frame(Health(better)) if better else b""
        self._sent, self._sent_standings = catalog.traffic, standings
        self._unacknowledged += 1
        channel.send(before + frame + after)

    def _acknowledge(self, revision: int) -> None:
        """Nothing is under way to the worker: it serves this revision, whose traffic it already has."""
        if self._unacknowledged == 0 and self.applied_revision != revision:
            self._applied(revision)
            self._on_change()

    def _applied(self, revision: int) -> None:
        self.applied_revision = revision
        self.applied_at_s = time.time()

    def _frame(self, frame: Upward) -> None:
        self._last_sign_s = asyncio.get_running_loop().time()
        self._is_silent = False
        if isinstance(frame, Applied):
            self._unacknowledged -= 1
            self._applied(frame.revision)
            self.in_flight = {(service, backend): count for service, backend, count in frame.in_flight}
            if self.state is SlotState.STARTING:
                self._set_state(SlotState.SERVING)
            self.publish()
            self._on_change()
        elif isinstance(frame, InFlight):
            self.in_flight = {(service, backend): count for service, backend, count in frame.in_flight}
            self._on_change()
        elif isinstance(frame, Sparing):
            self.sparing = frame
            self._on_sparing(self.name, frame)
        elif isinstance(frame, Silent):
            self._on_silent(frame)
        elif isinstance(frame, Beat):
            self.beat, self.beat_at_s = frame, asyncio.get_running_loop().time()
            self._on_change()
        elif isinstance(frame, Loads):
            self.loads = frame.backends
        else:
            self._statistics.add(frame)

    def check_alive(self, *, forgive: bool) -> None:
        """Kill a worker whose event loop is stuck. `forgive` if the manager itself was away meanwhile."""
        now_s = asyncio.get_running_loop().time()
        if forgive:
            self._last_sign_s = now_s
        limit_s = START_LIMIT_S if self._is_silent else BEAT_LIMIT_S
        if self._process is not None and now_s - self._last_sign_s > limit_s:
            logger.error(
                "a worker gave no sign of life: it is killed",
                extra={"worker": self.name, "pid": self.pid, "limit_s": limit_s},
            )
            self.kill()

    def stand_by(self) -> None:
        """Let no worker accept before `accept`. To be called before `run`."""
        self._standby = True

    def accept(self) -> None:
        """Let the worker accept, from now on."""
        if self._standby:
            self._standby = False
            if self._channel is not None:
                self._channel.send(encode_frame(Accept()))

    def drain(self, grace_s: float, *, patient: bool = False) -> None:
        """Let the worker finish what is in flight and end; there is no next one.

        Its listening sockets take no more connections, but for those that others go on with, and the manager's
        copies of them are closed now: from here on the worker holds the last ones, and closes them when they
        are empty. Where no worker runs, one is started for what is queued. Can be repeated, with less time.
        """
        handed_on = [position for position, listener in enumerate(self._listeners) if listener.shared]
        self._drain = Drain(grace_s, handed_on, patient)
        self._drained.set()
        if self._channel is not None:
            self._send_drain(self._drain)
        elif len(handed_on) == len(self._listeners):
            self._given_up = True

    def _send_drain(self, drain: Drain) -> None:
        assert self._channel is not None
        self._set_state(SlotState.DRAINING)
        for listener in self._listeners:
            if not listener.shared and listener.sock.fileno() != -1:
                take_no_more(listener.sock)
        self._channel.send(encode_frame(drain))
        self._close_listeners()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.sock.close()

    def give_up(self) -> None:
        """End the process at once, and start no other one."""
        self._given_up = True
        self._drained.set()
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is None or self._process.returncode is not None:
            return
        try:
            self._process.kill()
        except ProcessLookupError:
            pass
        except PermissionError:
            # Of another user, and without CAP_KILL. It is no reason to end the others.
            logger.error("a worker cannot be killed", extra={"worker": self.name, "pid": self.pid})

    def _set_state(self, state: SlotState) -> None:
        if state is not self.state:
            self.state = state
            self._on_change()


def _environment() -> dict[str, str]:
    """Of a worker."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_MANAGER)}
    return _ALLOCATOR | inherited


_Standings = list[tuple[BackendKey, Standing]]


def _standing_changes(
    sent: Mapping[BackendKey, Standing], now: Mapping[BackendKey, Standing]
) -> tuple[_Standings, _Standings]:
    """What has changed: to less than up, and to up."""
    if sent is now:
        return [], []
    worse = [(key, standing) for key, standing in now.items() if sent.get(key) is not standing]
    better = [(key, Standing.UP) for key in sent if key not in now]
    return worse, better
