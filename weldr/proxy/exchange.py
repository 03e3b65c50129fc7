"""One request and its response.

Everything that decides about them is here, in reaction to four parties: the client, the backend, the clock and
the table of backends.

| state      | meaning                               | leaves it                                               |
|------------|---------------------------------------|---------------------------------------------------------|
| pending    | every backend has as many connections | one is free -> connecting; too long -> ended (503)      |
|            | as it may                             |                                                         |
| connecting | a connection to a backend is made     | made -> waiting; refused -> connecting (next backend)   |
|            |                                       | or pending, or ended (5xx)                              |
| waiting    | the request is sent; no head yet      | head -> responding; 101 -> tunnelling; lost ->          |
|            |                                       | connecting (again, see below) or ended (5xx)            |
| responding | the client has the response's head    | complete -> ended; anything else -> ended by a reset    |
| tunnelling | another protocol, both ways           | both sides over -> ended                                |
| ended      | nothing of it is left                 |                                                         |

From each state the loss of the client leads to ended. A kept connection may be closed by the backend while the
request is under way, which no one can tell from a crash. So a request is sent again, once and on a new
connection, only if it is idempotent, has no body, and not a byte of a response had come. Where no connection
was made nothing was sent, and the next backend is tried without these conditions.

Interim responses are passed on in any state before responding. A response that begins before its request is
complete is passed on too, but then neither connection carries another exchange.
"""

from __future__ import annotations

import random
from enum import Enum
from time import perf_counter_ns, time
from typing import TYPE_CHECKING

from weldr.model.traffic import DEFAULT_SERVICE
from weldr.proxy.balancing.latency import PeakLatency
from weldr.proxy.chunked import chunk_parts
from weldr.proxy.connect import OWN_LIMIT, ConnectError, connect
from weldr.proxy.context import Context
from weldr.proxy.deadlines import NO_DEADLINE
from weldr.proxy.fleet import ServiceTable
from weldr.proxy.flow import SMALL_BYTES, Hold
from weldr.proxy.pool import BackendPool
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.request_head import RequestHead
from weldr.proxy.response_fields import ResponseInvalidError
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.retry_after import retry_after_s
from weldr.proxy.routing.conditions import Asked
from weldr.proxy.routing.rules import RouteRules, Verdict, body_too_large
from weldr.proxy.ruled_request import RuledRequest
from weldr.proxy.tunnel import join
from weldr.proxy.upstream_connection import UpstreamConnection

if TYPE_CHECKING:
    from weldr.proxy.client_connection import ClientConnection

_MAX_BACKENDS_TRIED = 4
_EMPTY_LINE = b"\r\n\r\n"
# 501 and 505 speak of the request: any client could have a backend ejected by them.
_NOT_THE_BACKENDS_FAULT = frozenset((501, 505))


class State(Enum):
    """See the module's table."""

    PENDING = "pending"
    CONNECTING = "connecting"
    WAITING = "waiting"
    RESPONDING = "responding"
    TUNNELLING = "tunnelling"
    ENDED = "ended"


# An attribute of a class with a metaclass is slow to look up.
_CONNECTING = State.CONNECTING
_WAITING = State.WAITING
_ENDED = State.ENDED


class Exchange:
    """See the module."""

    __slots__ = (
        "_chunk_response",
        "_client",
        "_context",
        "_cookie_line",
        "_outgoing",
        "_persistent",
        "_pool",
        "_repeated",
        "_request_complete",
        "_ruled",
        "_sent_ns",
        "_service",
        "_service_name",
        "_status",
        "_tried",
        "_upstream",
        "deadline_s",
        "error",
        "head",
        "request_bytes",
        "request_id_line",
        "response_bytes",
        "started_ns",
        "state",
    )

    writes = NO_DEADLINE
    deadline_s: float
    """While it is pending; so long it is among those that the sweep looks after."""

    def __init__(
        self,
        context: Context,
        client: ClientConnection,
        head: RequestHead,
        body: list[bytes],
        complete: bool,
    ) -> None:
        """`body` is what has come of it, `complete` whether that is all."""
        self.state = _CONNECTING
        self._context = context
        self._client = client
        self.head = head
        self._request_complete = complete
        self._outgoing = body
        self.started_ns = perf_counter_ns()
        self.request_bytes = sum(map(len, body)) if body else 0
        self.response_bytes = 0
        self.request_id_line = b""
        self.error: str | None = None
        self._status = 0
        """Of the response that the client gets; 0 before there is one."""
        self._service_name = DEFAULT_SERVICE
        self._ruled: RuledRequest | None = None
        self._service: ServiceTable | None = None
        self._pool: BackendPool | None = None
        self._upstream: UpstreamConnection | None = None
        self._tried: tuple[BackendPool, ...] = ()
        self._repeated = False
        self._persistent = False
        self._chunk_response = False
        self._cookie_line = b""
        """Binds the client to the backend, where the service does that."""
        self._sent_ns = 0
        """When the request was sent; kept where the service's policy asks for latencies."""
        counters = context.counters
        counters.requests += 1
        counters.in_flight += 1

    @property
    def client_address(self) -> str:
        """Whoever asked, also where trusted proxies are between."""
        return self._client.forwarding.client(self.head.fields.forwarded)

    def begin(self) -> None:
        """Find out who is to answer, and ask."""
        route = self._context.fleet.table.routes.find(self.head, self.client_address)
        if route is not None:
            self._service_name = route.service
            if route.rules is not None and not self._obey(route.rules):
                return
        self.seek(None)

    def _obey(self, rules: RouteRules) -> bool:
        """Whether the request goes on to a service under these rules; it was answered otherwise."""
        asked = Asked(self.head, self.client_address)
        verdict = rules.verdict(asked, self._context.now_s(), self._context.share)
        if verdict is None:
            self._service_name, cookie_line = rules.choose(asked)
            self._ruled = RuledRequest(rules, self._context, cookie_line)
            if self._ruled.body_came(self._outgoing):
                return True
            verdict = body_too_large(rules.max_body_bytes)
        self._give(verdict)
        return False

    # From the client.

    def request_received(self, body: list[bytes], *, complete: bool) -> None:
        """More of the body, or its end, has come."""
        self._request_complete = complete
        self.request_bytes += sum(map(len, body))
        if self._ruled is not None and not self._ruled.body_came(body):
            self._give(body_too_large(self._ruled.rules.max_body_bytes))
            return
        if self._upstream is None:
            self._outgoing += body
            self._client.gate.hold(Hold.NO_PEER)
            return
        parts = chunk_parts(body, last=complete) if self.head.fields.chunked else body
        if parts:
            self._upstream.write(parts)
        if complete and self._ruled is not None:
            self._ruled.complete(self.head, self._client.forwarding, self.request_id_line)
        if complete and self.state is _WAITING:
            self._await_response(self._upstream)

    def request_broken(self, refusal: RequestRefusedError) -> None:
        """The rest of the body cannot be had."""
        self._answer(refusal.status, "http_request_error", refusal.reason)

    def client_congested(self, congested: bool) -> None:
        """The client does, or does not, fall behind in reading."""
        if self._upstream is not None:
            if congested:
                self._upstream.gate.hold(Hold.PEER_FULL)
            else:
                self._upstream.gate.release(Hold.PEER_FULL)

    def client_lost(self) -> None:
        """There is nobody any more to answer."""
        if self.state is not _ENDED:
            self._end()

    # Towards a backend.

    def seek(self, failure: ConnectError | None) -> None:
        """Give the request to the next backend; if there is none, answer with the `failure` of the last."""
        service = self._context.fleet.table.services.get(self._service_name)
        pool = None
        if service is not None and len(self._tried) < _MAX_BACKENDS_TRIED:
            chooser = service.chooser
            if chooser is None:
                pool = service.balancer.pick(self._tried)
            else:
                pool = chooser.pick(self._tried, self.head, self.client_address, self._context.now_s())
        if service is None or pool is None:
            self._answer_unserved(service, failure)
            return
        if self._ruled is not None:
            service = self._ruled.timed(service)
        self._service = service
        if pool.in_flight >= pool.max_connections:
            pool = _not_full(service, self._tried)
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

    def _wait(self, service: ServiceTable) -> None:
        """Until a backend can take one more request, but no longer than a connection may take."""
        if len(service.pending.waiting) >= service.max_pending:
            self._answer_full()
            return
        self.state = State.PENDING
        service.pending.waiting[self] = None
        self.deadline_s = self._context.now_s() + service.connect_s
        self._context.deadlines.add(self)

    def wait_over(self) -> None:
        """A backend may be able to take it now."""
        self._stop_waiting()
        self.seek(None)

    def _stop_waiting(self) -> None:
        assert self._service is not None
        self.state = _CONNECTING
        self._service.pending.waiting.pop(self, None)
        self._context.deadlines.remove(self)

    def expire(self, now_s: float) -> None:
        """Called by the sweep: it has waited for too long."""
        self._stop_waiting()
        self._answer_full()

    def expire_write(self, now_s: float) -> None:
        """Never comes: it is not what writes."""

    def _answer_full(self) -> None:
        reason = f"every backend of the service {self._service_name} has as many requests as it may"
        self._answer(503, "connection_limit_reached", reason)

    async def _connect(self, pool: BackendPool, timeout_s: float) -> None:
        try:
            upstream = await connect(self._context, pool, timeout_s)
        except ConnectError as failure:
            service_name, backend_id, _, _ = pool.key
            self._context.warn(
                "a backend takes no connection: the next one is tried",
                key=pool.authority,
                service=service_name,
                backend=backend_id,
                address=pool.authority,
                reason=failure.reason,
            )
            if failure.error != OWN_LIMIT:
                pool.failed(self._context.now_s(), failure.reason)
            if self.state is _CONNECTING:
                self._give_up(pool)
                self.seek(failure)
            return
        service = self._service
        if self.state is not _CONNECTING or service is None:
            upstream.close()
        elif pool.stopped and not self._sticks(service, pool):
            # It went out of rotation meanwhile: whatever was in force at that instant reaches no new request.
            upstream.close()
            self._leave_pool()
            self.seek(None)
        elif not upstream.usable:
            closed = ConnectError(502, "connection_terminated", "the backend closed the connection at once")
            pool.failed(self._context.now_s(), closed.reason)
            self._give_up(pool)
            self.seek(closed)
        else:
            self._send(upstream, service)

    def _sticks(self, service: ServiceTable, pool: BackendPool) -> bool:
        chooser = service.chooser
        return chooser is not None and chooser.sticks(self.head, pool, self._context.now_s())

    def _give_up(self, pool: BackendPool) -> None:
        self._tried += (pool,)
        self._leave_pool()

    def _send(self, upstream: UpstreamConnection, service: ServiceTable) -> None:
        self.state = _WAITING
        self._upstream = upstream
        context, client, head = self._context, self._client, self.head
        upstream.begin(self, head.method, service.read_s, context.fleet.table.limits)
        if not head.fields.has_request_id and not self.request_id_line:
            self.request_id_line = context.request_id_line()
        ruled = self._ruled
        if ruled is None:
            lines = head.forwarded(client.forwarding, self.request_id_line, head.target, head.fields.lines)
        else:
            lines = ruled.forwarded(head, client.forwarding, self.request_id_line)
        outgoing = self._outgoing
        if head.fields.chunked:
            upstream.write([lines, *chunk_parts(outgoing, last=self._request_complete)])
        elif outgoing:
            upstream.write([lines, *outgoing])
        else:
            upstream.transport.write(lines)
        if outgoing:
            self._outgoing = []
        if client.gate.held:
            client.gate.release(Hold.NO_PEER)
        if client.congested:
            upstream.gate.hold(Hold.PEER_FULL)
        if self._request_complete:
            upstream.deadline_s = context.now_s() + service.response_s
            if ruled is not None:
                ruled.complete(head, client.forwarding, self.request_id_line)
        if service.chooser is not None:
            self._sent_ns = perf_counter_ns()

    def _await_response(self, upstream: UpstreamConnection) -> None:
        assert self._service is not None
        upstream.deadline_s = self._context.now_s() + self._service.response_s

    # From the backend.

    def upstream_received(self) -> None:
        """The reader has news."""
        upstream, service = self._upstream, self._service
        assert upstream is not None
        assert service is not None
        reader = upstream.reader
        parts: list[bytes] = []
        if reader.interim is not None:
            self._pass_on_interim(reader.take_interim(), parts)
        head = reader.head
        if head is None:
            if parts:
                self._client.write(parts)
            return
        if self.state is _WAITING:
            if head.status == 101:
                self._switch(head, parts)
                return
            self.state = State.RESPONDING
            parts += self._response_head(head)
        body = reader.take_body()
        self.response_bytes += sum(map(len, body))
        if self._chunk_response:
            trailer = reader.trailer if self.head.fields.wants_trailer else b""
            parts += chunk_parts(body, last=reader.complete, trailer=trailer)
        else:
            parts += body
        if parts:
            self._client.write(parts, small=reader.fed_bytes <= SMALL_BYTES)
        if reader.complete:
            self._complete(upstream)
        else:
            upstream.deadline_s = self._context.now_s() + service.read_s

    def upstream_answered(self, head: ResponseHead, body: bytes) -> bool:
        """This is the whole response; false if it needs more than to be passed on as it is."""
        request, client, upstream, pool = self.head, self._client, self._upstream, self._pool
        context = self._context
        if (
            self.state is not _WAITING
            or not self._request_complete
            or not request.version_11
            or not request.fields.persistent
            or client.ended
            or context.draining
            or (self._ruled is not None and self._ruled.edits_response)
            or upstream is None
            or pool is None
        ):
            return False
        if head.status < 500:
            pool.health.successes += 1
        else:
            self._note_5xx(pool, head)
        if pool.latency is not None:
            self._note_latency(pool.latency)
        date = _EMPTY_LINE if head.fields.has_date else context.date + _EMPTY_LINE
        client.write_bytes(b"".join((head.plain, self._cookie_line, date, body)))
        self._upstream = self._pool = None
        upstream.release_for(context.fleet.table.timeouts.upstream_idle_s)
        self.state = _ENDED
        context.counters.in_flight -= 1
        self.response_bytes = len(body)
        context.accounts.record(pool.way, self, head.status)
        pool.leave()
        client.exchange_ended(persistent=True)
        return True

    def _pass_on_interim(self, heads: list[ResponseHead], parts: list[bytes]) -> None:
        # RFC 9110, section 15.2: an HTTP/1.0 client knows no 1xx.
        if self.head.version_11:
            parts += [head.interim() for head in heads]

    def _response_head(self, head: ResponseHead) -> tuple[bytes, ...]:
        """The parts of the final head, after deciding how the body ends and whether the connection goes on."""
        request = self.head
        persistent = request.fields.persistent and self._request_complete and self._client.may_persist
        framing = b""
        trailer = False
        length = head.fields.content_length
        if length is not None and head.status != 204:
            framing = b"\r\nContent-Length: %d" % length
        elif head.has_body(request.method):
            if request.version_11:
                framing = b"\r\nTransfer-Encoding: chunked"
                self._chunk_response = True
                trailer = request.fields.wants_trailer
            else:
                persistent = False
        self._persistent = persistent
        self._status = head.status
        context = self._context
        if self._pool is not None:
            if head.status < 500:
                self._pool.health.successes += 1
            else:
                self._note_5xx(self._pool, head)
            if self._pool.latency is not None:
                self._note_latency(self._pool.latency)
        connection = b"" if persistent and request.version_11 else self._connection_line(persistent)
        ruled = self._ruled
        lines = None if ruled is None else ruled.response_lines(head.fields.lines)
        connection = self._cookie_line + connection
        return head.final(framing, connection, context.date, trailer=trailer, lines=lines)

    def _note_latency(self, latency: PeakLatency, *, answered: bool = True) -> None:
        if self._sent_ns:
            observe = latency.observe if answered else latency.at_least
            observe((perf_counter_ns() - self._sent_ns) / 1e9, self._context.now_s())

    def _note_5xx(self, pool: BackendPool, head: ResponseHead) -> None:
        context = self._context
        rest_s = None if head.status != 503 else retry_after_s(head.fields.lines, time())
        if rest_s is not None:
            pool.rest(context.now_s(), rest_s)
        elif head.status in _NOT_THE_BACKENDS_FAULT:
            pool.health.successes += 1
        else:
            pool.failed(context.now_s(), f"it answered with status {head.status}")

    def _note_failure(self, reason: str) -> None:
        """The backend did not answer, or not to the end."""
        pool = self._pool
        if pool is None:
            return
        if pool.latency is not None and self.state is _WAITING:
            self._note_latency(pool.latency, answered=False)
        if self.state is State.RESPONDING:
            # A 5xx that is cut off has been counted.
            if self._status < 500:
                pool.failed_late(self._context.now_s(), reason)
        else:
            pool.failed(self._context.now_s(), reason)

    def _connection_line(self, persistent: bool) -> bytes:
        if not persistent:
            return b"\r\nConnection: close"
        return b"" if self.head.version_11 else b"\r\nConnection: keep-alive"

    def _complete(self, upstream: UpstreamConnection) -> None:
        client = self._client
        if self._request_complete:
            self._upstream = None
            upstream.release(self._context.fleet.table.timeouts.upstream_idle_s)
        self._end()
        client.exchange_ended(persistent=self._persistent)

    def upstream_congested(self, congested: bool) -> None:
        """The backend does, or does not, fall behind in reading."""
        if congested:
            self._client.gate.hold(Hold.PEER_FULL)
        else:
            self._client.gate.release(Hold.PEER_FULL)

    def upstream_invalid(self, error: ResponseInvalidError) -> None:
        """What the backend sent is no response, or ends too early."""
        assert self._pool is not None
        service_name, backend_id, _, _ = self._pool.key
        self._context.warn(
            "a backend's response cannot be used",
            key=f"{self._pool.authority} {error.error}",
            service=service_name,
            backend=backend_id,
            reason=error.reason,
        )
        self._fail(502, error.error, error.reason)

    def upstream_lost(self) -> None:
        """The connection is gone before the response was complete."""
        upstream = self._upstream
        assert upstream is not None
        self._upstream = None
        if self.state is _WAITING and self._may_repeat(upstream):
            self._repeated = True
            self._leave_pool()
            self.seek(None)
        elif upstream.reader.started:
            self._fail(502, "http_response_incomplete", "the backend closed before the response was complete")
        else:
            self._fail(502, "connection_terminated", "the backend closed the connection without a response")

    def _fail(self, status: int, error: str, reason: str) -> None:
        self._note_failure(reason)
        self._answer(status, error, reason)

    def _may_repeat(self, upstream: UpstreamConnection) -> bool:
        # At most once: what is sent again goes out on a connection that was not used before.
        return upstream.used and not upstream.reader.started and self.head.idempotent and not self.head.has_body

    def upstream_timed_out(self, *, writing: bool) -> None:
        """The backend has not sent, or not read, anything for too long."""
        if writing:
            self._fail(504, "connection_write_timeout", "the backend does not read the request")
        else:
            self._fail(504, "http_response_timeout", "the backend did not respond in time")

    # The end.

    def _answer_unserved(self, service: ServiceTable | None, failure: ConnectError | None) -> None:
        if failure is not None:
            self._answer(failure.status, failure.error, failure.reason)
            return
        if service is not None and service.has_backends:
            reason = f"every backend of the service {self._service_name} {service.why_none}"
        elif service is not None or self._service_name != DEFAULT_SERVICE:
            reason = f"the service {self._service_name} has no backend"
        else:
            reason = f"no route takes this request, and the service {DEFAULT_SERVICE} has no backend"
        self._answer(503, "destination_unavailable", reason)

    def _answer(self, status: int, error: str, reason: str) -> None:
        """Answer in place of the backend; if that has begun to answer, cut the client off."""
        self._give(Verdict(status, reason, error))

    def _give(self, verdict: Verdict) -> None:
        client = self._client
        responding = self.state is State.RESPONDING
        self.error = verdict.error
        if not responding:
            self._status = verdict.status
        self._end()
        if responding:
            client.reset()
            return
        persistent = self.head.fields.persistent and self._request_complete and client.may_persist
        client.write_own_response(
            verdict.status,
            verdict.reason,
            error=verdict.error,
            field_line=verdict.field_line,
            content_type=verdict.content_type,
            connection=self._connection_line(persistent),
            head_only=self.head.method == b"HEAD",
        )
        client.exchange_ended(persistent=persistent)

    def _end(self) -> None:
        if self.state is State.PENDING:
            self._stop_waiting()
        self.state = _ENDED
        context = self._context
        context.counters.in_flight -= 1
        upstream, pool = self._upstream, self._pool
        way = (self._service_name, "") if pool is None else pool.way
        context.accounts.record(way, self, self._status)
        if upstream is not None:
            self._upstream = None
            upstream.abort()
        if pool is not None:
            self._pool = None
            pool.leave()

    def _leave_pool(self) -> None:
        pool = self._pool
        if pool is not None:
            self._pool = None
            pool.leave()

    # A tunnel.

    def _switch(self, head: ResponseHead, parts: list[bytes]) -> None:
        upstream, client, service = self._upstream, self._client, self._service
        assert upstream is not None
        assert service is not None
        if not head.switches_to(self.head.fields.upgrade) or not self._request_complete:
            self._answer(502, "http_upgrade_failed", "the backend changes to a protocol that nobody asked for")
            return
        self.state = State.TUNNELLING
        self._status = head.status
        self._upstream = None
        if self._pool is not None:
            self._pool.health.successes += 1
        parts.append(head.interim())
        client.write(parts)
        backend_end, from_backend = upstream.become_tunnel(service.read_s)
        client_end, from_client = client.become_tunnel(service.read_s)
        join(client_end, backend_end, service.tunnel_idle_s, self._end)
        client_end.data_received(from_client)
        backend_end.data_received(from_backend)


def _not_full(service: ServiceTable, tried: tuple[BackendPool, ...]) -> BackendPool | None:
    """Any backend that can take one more request."""
    members = service.members
    if not members:
        return None
    # From a random one on, since the first would otherwise get all that is left over.
    start = random.randrange(len(members))
    for index in range(-start, len(members) - start):
        pool = members[index]
        if not pool.full and pool not in tried:
            return pool
    return None
