"""A worker's life: it waits for its first update, accepts and serves, and drains.

It accepts nothing before the first update, since it would have to answer from a catalog that nobody gave it;
the connections queue up meanwhile. Nor does it in standby, where another worker serves its sockets until an
upgrade has come so far. It drains when it is told to, and when the channel ends, which means that
the manager is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weldr.model.frames import Accept, Beat, Downward, Drain, Health, Standby, Update
from weldr.proxy.acceptor import Acceptor
from weldr.proxy.channel import Channel
from weldr.proxy.context import Context
from weldr.proxy.deadlines import SWEEP_INTERVAL_S
from weldr.proxy.descriptors import OpenDescriptors, raise_soft_limit
from weldr.proxy.networks import NetworkSet
from weldr.proxy.spans import SpanQueue

if TYPE_CHECKING:
    from weldr.proxy.span_exporter import SpanExporter

logger = logging.getLogger(__name__)

_BEAT_INTERVAL_S = 1.0
_SPARING_PAUSE_S = 0.1
_LAST_LINES_S = 0.5
_LAST_SPANS_S = 3.0
_LAST_CALL_S = 2.0
"""Before a patient drain ends, idle clients are told to go."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of single requests, and to whom."""

    debug_networks: tuple[str, ...] = ()
    """Whose clients get fields about the way of their requests."""
    otlp_url: str = ""
    """Where spans go; empty for nowhere."""
    instance: str = ""
    """What the instance is called in spans."""


NOTHING = Telling()


class Worker:
    """One worker process."""

    def __init__(
        self,
        channel: socket.socket,
        listeners: list[socket.socket],
        grace_s: float,
        *,
        share: float,
        zone: str,
        telling: Telling = NOTHING,
    ) -> None:
        """`grace_s` is how long requests in flight may take if the manager is gone and cannot say it.

        `share` is this worker's part of what the instance grants as a whole; `zone` is where that is, empty if
        that is not known; `telling` is what is told of single requests, and to whom.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._grace_s = grace_s
        self._channel_socket = channel
        self._context = Context(loop, self._backend_idle, self._sparing_changed, zone)
        self._context.share = share
        self._descriptors = OpenDescriptors()
        self._exporter = self._observe(telling)
        self._acceptor = Acceptor(self._context, listeners)
        self._context.connections = raise_soft_limit(self._acceptor.descriptors)
        fleet = self._context.fleet
        self._channel = Channel(
            self._frame, fleet.leaving, lambda: fleet.sparing(loop.time()), self._channel_ended
        )
        self._loaded = False
        self._standby = False
        self._serving = False
        self._sparing_due = False
        self._deadline_s = float("inf")
        self._patient = False
        self._handed_on: list[int] = []
        self._drain_changed = asyncio.Event()
        self._finished = asyncio.Event()
        self._status = 0
        self._lag_s = 0.0
        """How late the event loop was at most since the last beat."""

    def _observe(self, telling: Telling) -> SpanExporter | None:
        observer = self._context.observer
        if telling.debug_networks:
            observer.debug = NetworkSet(telling.debug_networks)
        exporter = None
        if telling.otlp_url:
            # With it come packages that are not always there, and memory that is not always wanted.
            from weldr.proxy.span_exporter import SpanExporter

            observer.queue = SpanQueue()
            exporter = SpanExporter(observer.queue, telling.otlp_url, telling.instance)
        self._context.observed = observer.is_needed
        return exporter

    async def run(self) -> int:
        """Serve until drained; return the exit status."""
        self._loop.set_exception_handler(self._unhandled)
        await self._loop.create_unix_connection(lambda: self._channel, sock=self._channel_socket)
        began_s = self._loop.time()
        self._beat(began_s)
        self._sweep(began_s)
        await self._finished.wait()
        self._context.accounts.access_log.writer.close(_LAST_LINES_S)
        if self._exporter is not None:
            await self._loop.run_in_executor(None, self._exporter.close, _LAST_SPANS_S)
        return self._status

    def _frame(self, frame: Downward) -> None:
        match frame:
            case Health():
                self._context.fleet.apply_standings(frame.standings)
            case Update():
                self._update(frame)
            case Standby():
                self._standby = True
            case Accept():
                self._standby = False
                self._serve()
            case Drain():
                self._drain(frame)

    def _update(self, frame: Update) -> None:
        self._context.fleet.apply(frame.delta)
        if frame.delta.settings is not None:
            self._context.accounts.access_log.adopt(frame.delta.settings.access_log)
            self._context.observer.tracing = frame.delta.settings.tracing
            self._context.observed = self._context.observer.is_needed
        self._context.observer.revision = frame.revision
        self._channel.send_applied(frame.revision)
        if not self._loaded:
            self._loaded = True
            # What the start has made stays: the collector need not look at it again and again.
            gc.collect()
            gc.freeze()
            self._serve()

    def _serve(self) -> None:
        """Accept, once there is nothing left to wait for."""
        if self._loaded and not self._standby and not self._serving and not self._context.draining:
            self._serving = True
            self._context.spawn(self._acceptor.start(), "accept")

    def _backend_idle(self) -> None:
        self._channel.send_in_flight()

    def _sparing_changed(self) -> None:
        """Many backends may fail at once: they are told together, and not too often."""
        if not self._sparing_due:
            self._sparing_due = True
            self._loop.call_later(_SPARING_PAUSE_S, self._send_sparing)

    def _send_sparing(self) -> None:
        self._sparing_due = False
        self._channel.send_sparing()

    def _channel_ended(self, good: bool) -> None:
        if not good:
            self._status = 1
        elif not self._context.draining:
            logger.warning("the manager is gone: finishing what is in flight")
        if not self._context.draining:
            self._drain(Drain(self._grace_s))

    def _unhandled(self, _: asyncio.AbstractEventLoop, details: dict[str, object]) -> None:
        """What the event loop caught: it has closed the connection that this belongs to, if any."""
        error = details.get("exception")
        where = str(details.get("message", "event loop"))
        self._context.fault(where, error if isinstance(error, BaseException) else RuntimeError(where))

    def _beat(self, due_s: float) -> None:
        self._note_lag(due_s)
        try:
            self._tell_the_manager()
        finally:
            # A worker that is silent is killed: so it goes on, whatever goes wrong in it.
            next_s = self._loop.time() + _BEAT_INTERVAL_S
            self._loop.call_at(next_s, self._beat, next_s)

    def _tell_the_manager(self) -> None:
        counters = self._context.counters
        used, kept = self._context.fleet.connections()
        clients = len(self._context.clients)
        self._channel.send_beat(
            Beat(
                connections=counters.connections,
                requests=counters.requests,
                in_flight=counters.in_flight,
                faults=counters.faults,
                clients=clients,
                tunnels=counters.tunnels,
                backends_used=used,
                backends_kept=kept,
                lag_s=self._lag_s,
                spans_exported=0 if self._exporter is None else self._exporter.exported,
                spans_lost=self._spans_lost(),
                descriptors=self._descriptors.count(clients + used + kept),
            )
        )
        self._lag_s = 0.0
        self._channel.send_loads(self._context.fleet.loads())
        self._channel.send_tallies(self._context.accounts.take)
        if silent := self._context.fleet.silent():
            self._channel.send_silent(silent)

    def _spans_lost(self) -> int:
        queue = self._context.observer.queue
        return 0 if queue is None or self._exporter is None else queue.dropped + self._exporter.failed

    def _note_lag(self, due_s: float) -> None:
        self._lag_s = max(self._lag_s, self._loop.time() - due_s)

    def _sweep(self, due_s: float) -> None:
        self._note_lag(due_s)
        try:
            self._context.tick()
            self._acceptor.keep_to_limit()
        finally:
            # All waits end by it: so it goes on, whatever goes wrong in it.
            next_s = self._loop.time() + SWEEP_INTERVAL_S
            self._loop.call_at(next_s, self._sweep, next_s)

    def _drain(self, drain: Drain) -> None:
        if not self._context.draining:
            self._context.begin_draining()
            self._context.spawn(self._finish(), "drain")
        self._deadline_s = min(self._deadline_s, self._loop.time() + drain.grace_s)
        self._patient = drain.patient
        self._handed_on = self._handed_on or drain.handed_on
        self._drain_changed.set()

    async def _finish(self) -> None:
        """A second order to drain, with less time, may come during the first."""
        clients = self._context.clients
        try:
            await self._acceptor.drain(self._handed_on)
            while len(clients):
                self._drain_changed.clear()
                until_s = self._deadline_s
                if self._patient:
                    until_s -= _LAST_CALL_S
                else:
                    clients.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until_s):
                        await _first_of(clients.wait_gone(), self._drain_changed.wait())
                        continue
                if not self._patient:
                    break
                self._patient = False
            if len(clients):
                logger.warning(
                    "the time to finish is over: connections are cut", extra={"connections": len(clients)}
                )
                clients.abort()
        finally:
            self._finished.set()


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
