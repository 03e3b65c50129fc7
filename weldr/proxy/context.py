"""What all connections of a worker share, passed to each by its constructor."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

from weldr.model.log_limit import LogLimit
from weldr.proxy.access_log import AccessLog
from weldr.proxy.accounts import Accounts
from weldr.proxy.clients import Clients
from weldr.proxy.deadlines import NEVER, Deadlines
from weldr.proxy.descriptors import for_clients, for_kept
from weldr.proxy.fleet import Fleet
from weldr.proxy.line_writer import LineWriter
from weldr.proxy.observer import Observer
from weldr.proxy.outbox import Outbox
from weldr.proxy.pool import BackendPool

logger = logging.getLogger(__name__)

_STANDARD_OUTPUT = 1
_CATCH_UP_PAUSE_S = 0.002
"""As long as one step takes: so half of the time is for requests."""


class Counters:
    """Since the worker started, but for `in_flight` and `tunnels`."""

    __slots__ = ("connections", "faults", "in_flight", "requests", "tunnels")

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.faults = 0
        """Exceptions that nobody expected."""
        self.in_flight = 0
        self.tunnels = 0


class Context:
    """One worker's event loop, routing, limits and counters."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_backend_idle: Callable[[], None],
        on_sparing: Callable[[], None] = lambda: None,
        zone: str = "",
    ) -> None:
        """`on_backend_idle` is called when a backend that gets no new requests has no more in flight,
        `on_sparing` when other backends than before are kept from requests for their failures. `zone` is
        this instance's; empty if it has none."""
        self.loop = loop
        self.now_s: Callable[[], float] = loop.time
        self.fleet = Fleet(on_backend_idle, on_sparing, loop.time, zone, self._backend_out, self._fleet_behind)
        self.clients = Clients()
        self.deadlines = Deadlines(loop, self.fault)
        self.outbox = Outbox(loop.call_soon, self.fault)
        self.counters = Counters()
        self.accounts = Accounts(AccessLog(LineWriter(_STANDARD_OUTPUT)))
        self.observer = Observer()
        self.observed = False
        """Whether it needs to look at requests."""
        self.mirrored = 0
        """Copies of requests that are under way."""
        self.share = 1.0
        """This worker's part of what the instance grants as a whole."""
        self.connections = 1 << 20
        """For how many this process may open descriptors, to clients and backends together."""
        self.draining = False
        """No connection is kept for another request."""
        self.drain_began_s = NEVER
        self.date = _date_line()
        """The `Date` field line of now."""
        # Unique, not secret: a part for this worker and a part for each request.
        self._request_id_start = b"\r\nX-Request-Id: " + secrets.token_hex(8).encode("ascii")
        self._requests_named = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._log_limit = LogLimit()

    def begin_draining(self) -> None:
        self.draining = True
        self.drain_began_s = self.now_s()

    def tick(self) -> None:
        """What is done for all connections at once, every `SWEEP_INTERVAL_S`."""
        self.date = _date_line()
        self.deadlines.sweep()
        self.accounts.access_log.writer.flush()
        self.fleet.tick(self.now_s())
        self.fleet.trim_kept(for_kept(self.connections, len(self.clients), self.counters.in_flight))

    @property
    def client_limit(self) -> int:
        """How many clients may be connected."""
        by_descriptors = for_clients(self.connections, self.counters.in_flight)
        return min(self.fleet.table.limits.client_connections, by_descriptors)

    def request_id_line(self) -> bytes:
        """An `X-Request-Id` field line, different each time."""
        self._requests_named += 1
        return b"%b%08x" % (self._request_id_start, self._requests_named)

    def _backend_out(self, pool: BackendPool) -> None:
        incidents = self.accounts.incidents(pool.key[0])
        if pool.health.asked:
            incidents.rests += 1
        else:
            incidents.ejections += 1

    def _fleet_behind(self) -> None:
        self.loop.call_later(_CATCH_UP_PAUSE_S, self._catch_up)

    def _catch_up(self) -> None:
        more = True
        try:
            more = self.fleet.catch_up()
        finally:
            if more:
                self._fleet_behind()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` as a task that is held and whose failure is seen."""
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fault(task.get_name(), error)

    def fault(self, where: str, error: BaseException) -> None:
        """An exception that nobody expected. Whoever calls gives up the connection that it belongs to."""
        self.counters.faults += 1
        if self._log_limit.allows(f"fault {where} {type(error).__name__}", self.now_s()):
            logger.error("an unexpected error ended a connection", extra={"where": where}, exc_info=error)

    def warn(self, message: str, key: str, **facts: object) -> None:
        """Log a fault of the outside that may repeat with every request: seldom for the same `key`."""
        now_s = self.now_s()
        if self._log_limit.allows(f"{message} {key}", now_s):
            logger.warning(message, extra=facts | self._log_limit.suppressed())


def _date_line() -> bytes:
    return b"\r\nDate: " + formatdate(usegmt=True).encode("ascii")
