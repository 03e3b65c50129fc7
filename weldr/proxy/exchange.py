"""One request and its response.

Everything that decides about them is here or, where it is about which backend is asked, in `dispatch.py` and
`further_tries.py`, or about its response in `responding.py`: in reaction to four parties, the client, the
backend, the clock and the table of backends.

| state      | meaning                               | leaves it                                               |
|------------|---------------------------------------|---------------------------------------------------------|
| pending    | every backend has as many connections | there is room -> connecting; too long, or the client    |
|            | as it may, or the service as many     | ends its side -> ended (503)                            |
|            | requests                              |                                                         |
| connecting | a connection to a backend is made     | made -> waiting; refused -> connecting (next backend)   |
|            |                                       | or pending, or ended (5xx)                              |
| waiting    | the request is sent; no head yet      | head -> responding; 101 -> tunnelling; lost, too long   |
|            |                                       | for a try, or a head with certain statuses -> pausing   |
|            |                                       | or connecting (see below) or ended (5xx); the hedge     |
|            |                                       | answers first -> responding                             |
| pausing    | it has failed at one backend, and is  | after a moment -> connecting                            |
|            | to be given to another                |                                                         |
| responding | the client has the response's head    | complete -> ended; anything else -> ended by a reset    |
| tunnelling | another protocol, both ways           | both sides over -> ended                                |
| ended      | nothing of it is left                 |                                                         |

From each state the loss of the client leads to ended, and so does the deadline for the whole request, if there
is one. A request may be sent again only if it is idempotent (RFC 9110, section 9.2.2), it has no body, and
nothing of its final response has gone to the client. Then it is

- sent once more and on a new connection, if a kept one was closed before a byte of the response had come: a
  backend may do that while the request is under way, which no one can tell from a crash;
- given to another backend after any other loss of the connection, a try that took too long, or a response with
  one of certain statuses, as often as `retries` and their budget allow.

Where no connection was made, or it had ended before a byte was written, nothing was sent, and the request goes
on without these conditions. A hedge (`hedge.py`) is a second try beside the first. Whichever is answered first
is the one that goes on; if the first fails, the hedge takes its place.

Interim responses are passed on in any state before responding. A response that begins before its request is
complete is passed on too, whether or not the rest of the request comes or is read meanwhile; but then the
client's connection carries no other exchange, nor does the backend's unless the request is complete before the
response.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from weldr.model.traffic import DEFAULT_SERVICE
from weldr.proxy import outcome
from weldr.proxy.chunked import chunk_parts
from weldr.proxy.context import Context
from weldr.proxy.dispatch import State
from weldr.proxy.flow import Hold
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.request_head import RequestHead
from weldr.proxy.responding import Responding
from weldr.proxy.response_fields import ResponseInvalidError
from weldr.proxy.routing.conditions import Asked
from weldr.proxy.routing.rules import RouteRules, Verdict, body_too_large
from weldr.proxy.ruled_request import RuledRequest
from weldr.proxy.verdicts import INCOMPLETE, LOST, NOT_READING, SILENT

if TYPE_CHECKING:
    from weldr.proxy.client_connection import ClientConnection
    from weldr.proxy.hedge import Hedge

# An attribute of a class with a metaclass is slow to look up.
_CONNECTING = State.CONNECTING
_WAITING = State.WAITING
_ENDED = State.ENDED


class Exchange(Responding):
    """See the module."""

    __slots__ = ()

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
        self.verdict = None
        self._status = 0
        self._service_name = DEFAULT_SERVICE
        self.route = None
        self._ruled = None
        self._service = self._pool = self._upstream = self._supervision = None
        self._tried = ()
        self._repeated = False
        self._retried = 0
        self.deadline_s = 0.0
        self._persistent = False
        self._chunk_response = False
        self._cookie_line = b""
        self._sent_ns = self._begun_ns = self._answered_ns = 0
        counters = context.counters
        counters.requests += 1
        counters.in_flight += 1

    def begin(self) -> None:
        """Find out who is to answer, and ask."""
        routes = self._context.fleet.table.routes
        try:
            route = None if routes.is_empty else routes.find(self.head, self.client_address)
        except RequestRefusedError as refusal:
            self.request_broken(refusal)
            return
        if route is not None:
            self.route = route
            self._service_name = route.service
            if route.rules is not None and not self._obey(route.rules):
                return
        self.seek(None)

    def _obey(self, rules: RouteRules) -> bool:
        """Whether the request goes on to a service under these rules; it was answered otherwise."""
        asked = Asked(self.head, self.client_address)
        verdict = rules.verdict(asked, self._context.now_s(), self._context.share)
        if verdict is not None and verdict.status == 429:
            self._incidents.rate_limited += 1
        if verdict is None:
            self._service_name, cookie_line = rules.choose(asked)
            self._ruled = RuledRequest(rules, self._context, cookie_line)
            if self._ruled.body_came(self._outgoing):
                return True
            verdict = body_too_large(rules.max_body_bytes)
        self._answer(verdict)
        return False

    # From the client.

    def request_received(self, body: list[bytes], *, complete: bool) -> None:
        """More of the body, or its end, has come."""
        self._request_complete = complete
        self.request_bytes += sum(map(len, body))
        if self._ruled is not None and not self._ruled.body_came(body):
            self._answer(body_too_large(self._ruled.rules.max_body_bytes))
            return
        if self._upstream is None:
            self._outgoing += body
            if not complete:
                # Behind all of it there may be the end of the client, which is to be seen.
                self._client.gate.hold(Hold.NO_PEER)
            return
        parts = chunk_parts(body, last=complete) if self.head.fields.chunked else body
        if parts:
            self._upstream.write(parts)
        if self.state is State.RESPONDING and self._service is not None:
            # A backend that has begun to answer may well wait for the rest before it goes on.
            self._upstream.deadline_s = self._context.now_s() + self._service.read_s
        if complete and self._ruled is not None:
            self._ruled.complete(self.head, self._client.forwarding, self.request_id_line)
        if complete and self.state is _WAITING:
            self._await_response(self._upstream)

    def request_broken(self, refusal: RequestRefusedError) -> None:
        """It cannot be routed, or the rest of its body cannot be had."""
        self._answer(Verdict(refusal.status, refusal.reason, "http_request_error"))

    def client_lost(self) -> None:
        """There is nobody any more to answer."""
        if self.state is not _ENDED:
            self._end()

    # From the backend.

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
        self._fail(Verdict(502, error.reason, error.error))

    def upstream_lost(self) -> None:
        """The connection is gone before the response was complete."""
        upstream = self._upstream
        assert upstream is not None
        self._upstream = None
        if self.state is _WAITING and self._may_be_aged(upstream):
            self._repeat()
        else:
            self._fail(INCOMPLETE if upstream.reader.started else LOST, elsewhere=True)

    def upstream_timed_out(self, *, writing: bool) -> None:
        """The backend has not sent, or not read, anything for too long."""
        if writing and self.state is State.RESPONDING:
            # It has answered without the rest of the body, and need not read it.
            return
        self._fail(NOT_READING if writing else SILENT)

    def hedge_answered(self, hedge: Hedge) -> None:
        """The hedge has been answered first: what was sent before it is given up."""
        supervision, upstream = self._supervision, self._upstream
        assert supervision is not None
        supervision.hedge_won(hedge)
        if upstream is not None:
            upstream.abort()
        self._adopt(hedge)
        self.upstream_received()

    # The end.

    def _fail(self, verdict: Verdict, *, elsewhere: bool = False) -> None:
        """The try has failed. It goes on with the hedge, or `elsewhere` if that is allowed, or is answered."""
        upstream = self._upstream
        self._note_failure(verdict.reason)
        if self.state is not _WAITING or not self._goes_on(verdict, elsewhere=elsewhere):
            self._answer(verdict)
        elif upstream is not None:
            upstream.abort()

    def _note_failure(self, reason: str) -> None:
        """The backend did not answer, or not to the end."""
        pool = self._pool
        if pool is None:
            return
        if pool.latency is not None and self.state is _WAITING:
            self._note_latency(pool.latency, answered=False)
        if self.state is not State.RESPONDING:
            outcome.failed(self._context, pool, self._supervision, reason)
        elif self._status < 500:
            # A 5xx that is cut off has been counted.
            lasted_s = (perf_counter_ns() - self._answered_ns) / 1e9
            outcome.failed_late(self._context, pool, self._supervision, reason, lasted_s)

    def _answer(self, verdict: Verdict) -> None:
        """Answer in place of the backend; if that has begun to answer, cut the client off."""
        client = self._client
        responding = self.state is State.RESPONDING
        self.verdict = verdict
        if not self.request_id_line and not self.head.fields.has_request_id:
            self.request_id_line = self._context.request_id_line()
        if not responding:
            self._status = verdict.status
        debug = self._debug_lines()
        self._end()
        if responding:
            client.reset()
            return
        persistent = self.head.fields.persistent and self._request_complete and client.may_persist
        client.write_own_response(
            verdict.status,
            verdict.reason,
            error=verdict.error,
            request_id=self.request_id,
            debug=debug,
            field_line=verdict.field_line,
            content_type=verdict.content_type,
            connection=self._connection_line(persistent),
            head_only=self.head.method == b"HEAD",
        )
        client.exchange_ended(persistent=persistent)

    def _debug_lines(self) -> bytes:
        """Field lines about the way of the request, for clients that may see them."""
        return b""

    def _end(self) -> None:
        if self.state is State.PENDING:
            self._stop_waiting()
        elif self.state is State.PAUSING:
            self._pause.cancel()
        elif self.state is State.TUNNELLING:
            self._context.counters.tunnels -= 1
        self.state = _ENDED
        context = self._context
        context.counters.in_flight -= 1
        upstream, pool = self._upstream, self._pool
        way = (self._service_name, "") if pool is None else pool.way
        if self.verdict is not None and self.verdict.error is not None:
            context.accounts.failed(way, self.verdict.error)
        begun_ns = self._begun_ns or self.started_ns
        context.accounts.record(way, self, self._status, max(0, self._answered_ns - begun_ns))
        if upstream is not None:
            self._upstream = None
            upstream.abort()
        has_left = self._supervision is not None and self._supervision.end()
        self._leave_pool()
        if has_left:
            # The backend has woken nobody where it is full or out, or one that waits has tried it.
            self._wake_others()
