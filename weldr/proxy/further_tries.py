"""What becomes of a request when a try has failed: it goes on with another backend or with its hedge, or not.

Part of an exchange, between `dispatch.py` and `exchange.py`.
"""

from __future__ import annotations

import random
from time import perf_counter_ns
from typing import TYPE_CHECKING

from weldr.proxy import outcome
from weldr.proxy.backoff import pause_s
from weldr.proxy.balancing.latency import PeakLatency
from weldr.proxy.chunked import ChunkedDecoder
from weldr.proxy.dispatch import MAX_BACKENDS_TRIED, Dispatch, State
from weldr.proxy.flow import Hold
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.routing.rules import Verdict
from weldr.proxy.upstream_connection import UpstreamConnection
from weldr.proxy.verdicts import CLOSED_AT_ONCE, TOO_LONG, TRY_TOO_LONG, gave_up

if TYPE_CHECKING:
    from weldr.proxy.hedge import Hedge

_EMPTY_LINE = b"\r\n\r\n"
_WAITING = State.WAITING


class FurtherTries(Dispatch):
    """See the module."""

    __slots__ = ()

    def _may_be_aged(self, upstream: UpstreamConnection) -> bool:
        """Whether it can be repeated, and was lost on a connection that may have been closed for its age."""
        has_hedge = self._supervision is not None and self._supervision.hedge is not None
        is_first = not self._repeated and not has_hedge
        return is_first and upstream.used and not upstream.reader.started and self.is_repeatable

    def upstream_unsent(self, unsent: bytes) -> None:
        """The connection had ended before any byte of the request, of which `unsent` had come, was sent.

        As if it had not been there: the request may go on whatever its method, and with its body.
        """
        upstream, pool = self._upstream, self._pool
        assert upstream is not None
        assert pool is not None
        self._upstream = None
        self._outgoing = self._body_of(unsent)
        if self._supervision is not None:
            # In a long turn there may be one already: it must not answer while another try begins.
            self._supervision.forget_try()
            self._supervision.drop_hedge()
        if upstream.used:
            self._repeat()
            return
        outcome.failed(self._context, pool, self._supervision, CLOSED_AT_ONCE.reason)
        self._tried += (pool,)
        self._leave_pool()
        self.seek(CLOSED_AT_ONCE)

    def _body_of(self, unsent: bytes) -> list[bytes]:
        body = unsent.partition(_EMPTY_LINE)[2]
        if not self.head.fields.chunked:
            return [body] if body else []
        parts: list[bytes] = []
        ChunkedDecoder(0, 0).feed(body, 0, parts)
        return parts

    def _repeat(self) -> None:
        """Send it once more, on a new connection."""
        self._repeated = True
        self._incidents.repeats += 1
        if self._supervision is not None:
            self._supervision.forget_try()
        self._leave_pool()
        self.seek(None)

    def _goes_on(self, verdict: Verdict, *, elsewhere: bool) -> bool:
        """Whether, the try having failed, the hedge has taken over or, if `elsewhere` is allowed, the request
        will be given to another backend. What becomes of the connection is the caller's affair.
        """
        supervision = self._supervision
        if supervision is not None:
            supervision.forget_try()
            hedge = supervision.take_hedge()
            if hedge is not None:
                self._upstream = None
                self._adopt(hedge)
                return True
            elsewhere = elsewhere and supervision.lets_retry
        if not elsewhere or not self._may_retry():
            return False
        self._retried += 1
        self._incidents.retries += 1
        self._tried = self.tried_backends()
        self._upstream = None
        self._leave_pool()
        self.state = State.PAUSING
        assert self._service is not None
        retries = self._service.retries
        wait_s = pause_s(self._retried, retries.pause_s, retries.longest_pause_s, random.random())
        self._pause = self.later(wait_s, lambda: self._try_again(verdict))
        return True

    def _try_again(self, verdict: Verdict) -> None:
        self._begun_ns = perf_counter_ns()
        self.seek(verdict)

    def _may_retry(self) -> bool:
        """Whether another backend has room for it, and the budget too. If so, the budget is charged."""
        service = self._service
        if service is None or self._retried >= service.retries.attempts or not self.is_repeatable:
            return False
        tried = self.tried_backends()
        if len(tried) >= MAX_BACKENDS_TRIED or service.with_room(tried) is None:
            return False
        if service.budget.take(self._context.now_s()):
            return True
        self._incidents.budget_exhausted += 1
        return False

    def _note_answer(self, head: ResponseHead) -> None:
        if self._pool is not None:
            self._pool.speaks_10 = not head.version_11
            outcome.answered(self._context, self._pool, self._supervision, head)
            if self._pool.latency is not None:
                self._note_latency(self._pool.latency)

    def _note_latency(self, latency: PeakLatency, *, answered: bool = True) -> None:
        if self._sent_ns:
            observe = latency.observe if answered else latency.at_least
            observe((perf_counter_ns() - self._sent_ns) / 1e9, self._context.now_s())

    def _is_discarded(self, head: ResponseHead) -> bool:
        """Whether the request goes on in spite of this response, so that the client does not get it."""
        assert self._service is not None
        is_retried = head.status in self._service.retries.statuses
        if is_retried and self._goes_on(gave_up(head.status), elsewhere=True):
            return True
        if self._supervision is not None:
            self._supervision.drop_hedge()
        return False

    def try_timed_out(self) -> None:
        """It is still without a response after the time for one try."""
        if self.state is _WAITING:
            if self._supervision is not None:
                self._supervision.timed_out()
            self._fail(TRY_TOO_LONG, elsewhere=True)

    def deadline_passed(self) -> None:
        """The time for the whole request is over."""
        self._incidents.deadlines_passed += 1
        is_the_clients = self._supervision is not None and self._supervision.is_shortened
        if self.state is _WAITING and self._pool is not None and not is_the_clients:
            outcome.failed(self._context, self._pool, self._supervision, TOO_LONG.reason)
        self._answer(TOO_LONG)

    def _adopt(self, hedge: Hedge) -> None:
        """Go on with the hedge's backend and connection in place of its own."""
        upstream = hedge.upstream
        assert upstream is not None
        self._tried = self.tried_backends()
        self._leave_pool()
        self._pool, self._upstream = hedge.pool, upstream
        self._sent_ns = 0
        self._begun_ns = hedge.sent_ns
        if self._service is not None and self._service.chooser is not None:
            chooser, now_s = self._service.chooser, self._context.now_s()
            self._cookie_line = chooser.cookie_line(self._tried, self.head, hedge.pool, now_s)
        upstream.user = self  # type: ignore[assignment]
        if self._client.congested:
            upstream.gate.hold(Hold.PEER_FULL)
