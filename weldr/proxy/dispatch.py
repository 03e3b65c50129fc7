"""Which backend a request is given to: that part of an exchange that comes before its response. The table of
states is in `exchange.py`, and what follows when a try has failed in `further_tries.py`.
"""

from __future__ import annotations

import re
from asyncio import TimerHandle
from collections.abc import Callable
from enum import Enum
from time import perf_counter_ns
from typing import TYPE_CHECKING

from weldr.model.incidents import Incidents
from weldr.proxy.chunked import chunk_parts
from weldr.proxy.connect import ConnectError, connect
from weldr.proxy.context import Context
from weldr.proxy.deadlines import NEVER, NO_DEADLINE
from weldr.proxy.flow import Hold
from weldr.proxy.pool import BackendPool
from weldr.proxy.request_fields import request_id_of
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.compiled import CompiledRoute
from weldr.proxy.routing.rules import Verdict
from weldr.proxy.ruled_request import RuledRequest
from weldr.proxy.service_table import ServiceTable
from weldr.proxy.supervision import Admission, Supervision
from weldr.proxy.upstream_connection import UpstreamConnection
from weldr.proxy.verdicts import circuit_open, full, left, unserved

if TYPE_CHECKING:
    from weldr.proxy.client_connection import ClientConnection
    from weldr.proxy.hedge import Hedge

MAX_BACKENDS_TRIED = 4
_EXPECTS_100 = re.compile(rb"\r\nExpect: 100-continue\r\n", re.IGNORECASE)


class State(Enum):
    """See the module's table."""

    PENDING = "pending"
    CONNECTING = "connecting"
    WAITING = "waiting"
    PAUSING = "pausing"
    RESPONDING = "responding"
    TUNNELLING = "tunnelling"
    ENDED = "ended"


# An attribute of a class with a metaclass is slow to look up.
_CONNECTING = State.CONNECTING
_WAITING = State.WAITING


class Dispatch:
    """See the module. What it has is set by the exchange."""

    __slots__ = (
        "_answered_ns",
        "_begun_ns",
        "_client",
        "_context",
        "_cookie_line",
        "_outgoing",
        "_pause",
        "_pool",
        "_repeated",
        "_request_complete",
        "_retried",
        "_ruled",
        "_sent_ns",
        "_service",
        "_service_name",
        "_supervision",
        "_tried",
        "_upstream",
        "deadline_s",
        "head",
        "request_bytes",
        "request_id_line",
        "route",
        "state",
    )

    _client: ClientConnection
    _context: Context
    _cookie_line: bytes
    """Binds the client to the backend, where the service does that."""
    _outgoing: list[bytes]
    """What has come of the body and is not sent."""
    _pause: TimerHandle
    """While it is pausing."""
    _pool: BackendPool | None
    _repeated: bool
    """Whether it was lost on a kept connection, and goes out on a new one."""
    _request_complete: bool
    _retried: int
    """How often it was given to another backend for a failure."""
    _ruled: RuledRequest | None
    """What its route has to say, if that is more than which service it goes to."""
    _begun_ns: int
    """When it was sent last, if that was not at once."""
    _answered_ns: int
    """When the response's head had come, if not all of it did at once."""
    _sent_ns: int
    """When the request was sent; kept where the service's policy asks for latencies."""
    _service: ServiceTable | None
    _service_name: str
    _supervision: Supervision | None
    _tried: tuple[BackendPool, ...]
    """Backends that are not to be tried again."""
    _upstream: UpstreamConnection | None
    deadline_s: float
    """For it to be pending no longer; 0 before it is. It is not set anew when it is pending again."""
    head: RequestHead
    request_bytes: int
    request_id_line: bytes
    route: CompiledRoute | None
    state: State
    writes = NO_DEADLINE

    @property
    def client_address(self) -> str:
        """Whoever asked, also where trusted proxies are between."""
        return self._client.forwarding.client(self.head.fields.forwarded)

    @property
    def _incidents(self) -> Incidents:
        return self._context.accounts.incidents(self._service_name)

    @property
    def request_id(self) -> bytes:
        """The client's, or the one that weldr made."""
        return self.request_id_line.partition(b": ")[2] or request_id_of(self.head.fields.lines)

    def _answer(self, verdict: Verdict) -> None:
        """Answer in place of a backend."""
        raise NotImplementedError

    def _fail(self, verdict: Verdict, *, elsewhere: bool = False) -> None:
        """The try has failed."""
        raise NotImplementedError

    def hedge_answered(self, hedge: Hedge) -> None:
        """The hedge has been answered first."""
        raise NotImplementedError

    def try_timed_out(self) -> None:
        """It is still without a response after the time for one try."""
        raise NotImplementedError

    def deadline_passed(self) -> None:
        """The time for the whole request is over."""
        raise NotImplementedError

    # Towards a backend.

    def seek(self, failure: Verdict | None, favoured: BackendPool | None = None) -> None:
        """Give the request to the favoured backend, or else to the next one. If there is none, answer with the
        `failure` at the last one.
        """
        service = self._context.fleet.table.services.get(self._service_name)
        if service is None:
            self._answer(failure or unserved(self._service_name, None))
            return
        if self._ruled is not None:
            service = self._ruled.timed(service)
        self._service = service
        if service.supervised and not self._is_admitted(service):
            return
        pool = favoured
        if pool is None and len(self._tried) < MAX_BACKENDS_TRIED:
            chooser = service.chooser
            if chooser is None:
                pool = service.balancer.pick(self._tried)
            else:
                pool = chooser.pick(self._tried, self.head, self.client_address, self._context.now_s())
        if pool is None:
            pool = None if failure is None else self._last_resort(service)
            if pool is None:
                self._answer(failure or unserved(self._service_name, service))
                return
        elif pool.in_flight >= pool.max_connections:
            pool = service.with_room(self._tried)
            if pool is None:
                self._wait(service)
                return
        self._pool = pool
        pool.in_flight += 1
        if service.chooser is not None:
            self._cookie_line = service.chooser.cookie_line(self._tried, self.head, pool, self._context.now_s())
        upstream = None if self._repeated else pool.take()
        if upstream is None:
            self.state = _CONNECTING
            self._context.spawn(self._connect(pool, service.connect_s), "connect")
        else:
            self._send(upstream, service)

    def _last_resort(self, service: ServiceTable) -> BackendPool | None:
        """An ejected backend, after those that are not could not be reached: it may be well again by now."""
        lets_retry = self._supervision is None or self._supervision.lets_retry
        if self._retried or not lets_retry or len(self._tried) >= MAX_BACKENDS_TRIED:
            return None
        pool = service.membership.last_resort(self._tried)
        if pool is None:
            return None
        if not service.budget.take(self._context.now_s()):
            self._incidents.budget_exhausted += 1
            return None
        pool.health.resorted_to()
        return pool

    def _is_admitted(self, service: ServiceTable) -> bool:
        """Whether the service's own limits let it through; if not, it waits or is answered."""
        supervision = self._supervision
        if supervision is None:
            supervision = self._supervision = Supervision(self._context, self, service)
        admission = supervision.admit(service)
        if admission is Admission.FULL:
            self._wait(service)
        elif admission is Admission.REFUSED:
            self._incidents.circuit_refused += 1
            self._answer(circuit_open(self._service_name, service.guard.open_s(self._context.now_s())))
        return admission is Admission.ADMITTED

    def _wait(self, service: ServiceTable) -> None:
        """Until there is room for one more request, but no longer than a connection may take."""
        pending = service.guard.pending
        if self._supervision is not None and self._supervision.withdraw() and pending.waiting:
            # Others may have a backend for the place that it gives up: after this, since it is not through yet.
            self.later(0.0, self._wake_others)
        if self._client.ended or len(pending.waiting) >= service.max_pending:
            self._shed()
            return
        self.state = State.PENDING
        pending.waiting[self] = None
        if not self.deadline_s:
            self.deadline_s = self._context.now_s() + service.connect_s
            self._incidents.queued += 1
        self._context.deadlines.add(self)

    def wait_over(self, pool: BackendPool | None) -> None:
        """There may be room now; at this backend, if one is given."""
        # What goes wrong must not befall whoever has made the room.
        try:
            self._stop_waiting()
            if self._client.has_ended:
                # While the rest of its body was not read.
                self._shed()
                return
            self._begun_ns = perf_counter_ns()
            self.seek(None, pool)
        except Exception as error:
            self._context.fault("wait", error)
            self.give_up()

    def _stop_waiting(self) -> None:
        assert self._service is not None
        self.state = _CONNECTING
        self._service.guard.pending.forget(self)
        self._context.deadlines.remove(self)

    def expire(self, now_s: float) -> None:
        """Called by the sweep: it has waited for too long."""
        self._stop_waiting()
        self._shed()

    def client_ended(self) -> None:
        """The client has ended its side, and may have left: no backend is to begin to work for it."""
        if self.state is State.PENDING:
            self._stop_waiting()
            self._shed()

    def _shed(self) -> None:
        self._incidents.shed += 1
        name = self._service_name
        self._answer(left(name) if self._client.has_ended else full(name))

    def expire_write(self, now_s: float) -> None:
        """Never comes: it is not what writes."""

    def give_up(self) -> None:
        """An exception that nobody expected has left it as it should not be: with the client ends all of it."""
        self._client.abort()

    async def _connect(self, pool: BackendPool, timeout_s: float) -> None:
        try:
            await self._send_on_new_connection(pool, timeout_s)
        except Exception as error:
            self._context.fault("connect", error)
            self.give_up()

    async def _send_on_new_connection(self, pool: BackendPool, timeout_s: float) -> None:
        try:
            upstream = await connect(self._context, pool, self._supervision, timeout_s)
        except ConnectError as failure:
            if self.state is _CONNECTING:
                self._begun_ns = perf_counter_ns()
                self._tried += (pool,)
                self._leave_pool()
                self.seek(failure.verdict)
            return
        self._begun_ns = perf_counter_ns()
        service = self._service
        if self.state is not _CONNECTING or service is None:
            upstream.close()
        elif pool.stopped and not self._sticks(service, pool):
            # It went out of rotation meanwhile: whatever was in force at that instant reaches no new request.
            upstream.close()
            self._leave_pool()
            self.seek(None)
        else:
            self._send(upstream, service)

    def _sticks(self, service: ServiceTable, pool: BackendPool) -> bool:
        chooser = service.chooser
        return chooser is not None and chooser.sticks(self.head, pool, self._context.now_s())

    def _send(self, upstream: UpstreamConnection, service: ServiceTable) -> None:
        self.state = _WAITING
        self._upstream = upstream
        service.budget.sent += 1
        context, client, head = self._context, self._client, self.head
        data = self.request_lines()
        outgoing = self._outgoing
        if head.fields.chunked:
            data = b"".join((data, *chunk_parts(outgoing, last=self._request_complete)))
        elif outgoing:
            data = b"".join((data, *outgoing))
        if outgoing:
            self._outgoing = []
        if client.gate.held:
            client.gate.release(Hold.NO_PEER)
        if client.congested:
            upstream.gate.hold(Hold.PEER_FULL)
        if self._request_complete:
            upstream.deadline_s = context.now_s() + service.response_s
            if self._ruled is not None:
                self._ruled.complete(head, client.forwarding, self.request_id_line)
            if self._supervision is not None:
                self._supervision.sent()
        else:
            # Not that until which the connection would have been kept.
            upstream.deadline_s = NEVER
            if self._pool is not None and self._pool.speaks_10 and not self.request_bytes:
                self._invite_body()
        if service.chooser is not None:
            self._sent_ns = perf_counter_ns()
        # Last, since it may turn out at once that the connection has ended, and all begins anew. The exchange,
        # of which this is a part, is such a user.
        limits = context.fleet.table.limits
        upstream.begin(self, head.method, data, service.read_s, limits)  # type: ignore[arg-type]

    def _invite_body(self) -> None:
        """Its client may wait for a 100, which a backend of HTTP/1.0 cannot send (RFC 9110, section 10.1.1)."""
        if _EXPECTS_100.search(self.head.fields.lines):
            self._client.write([b"HTTP/1.1 100 Continue\r\n\r\n"])

    def request_lines(self) -> bytes:
        """The head as a backend gets it."""
        head = self.head
        if not head.fields.has_request_id and not self.request_id_line:
            self.request_id_line = self._context.request_id_line()
        forwarding = self._client.forwarding
        if self._ruled is None:
            lines = head.forwarded(forwarding, self.request_id_line, head.target, head.fields.lines)
        else:
            lines = self._ruled.forwarded(head, forwarding, self.request_id_line)
        return lines if self._supervision is None else self._supervision.with_deadline(lines)

    def _await_response(self, upstream: UpstreamConnection) -> None:
        assert self._service is not None
        self._begun_ns = perf_counter_ns()
        upstream.deadline_s = self._context.now_s() + self._service.response_s
        if self._supervision is not None:
            self._supervision.sent()

    # What may go on with another backend.

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent twice, as long as nothing of a response has gone to the client."""
        return self.head.idempotent and not self.head.has_body

    @property
    def awaits_response(self) -> bool:
        """Whether it is sent, and no byte of a response has come."""
        return self.state is _WAITING and self._upstream is not None and not self._upstream.reader.started

    def tried_backends(self) -> tuple[BackendPool, ...]:
        """Those where it was, and where it is."""
        return self._tried if self._pool is None else (*self._tried, self._pool)

    def later(self, wait_s: float, callback: Callable[[], None]) -> TimerHandle:
        """Call this after a while, unless cancelled. What goes wrong in it ends the client's connection."""
        return self._context.loop.call_later(wait_s, self._due, callback)

    def _due(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:
            self._context.fault("timer", error)
            self.give_up()

    def _wake_others(self) -> None:
        """There is room in the service for some of those that wait."""
        service = self._context.fleet.table.services.get(self._service_name)
        if service is not None:
            service.wake()

    def _leave_pool(self) -> None:
        pool = self._pool
        if pool is not None:
            self._pool = None
            pool.leave()
