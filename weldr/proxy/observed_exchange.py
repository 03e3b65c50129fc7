"""An exchange that is told of, by traces and debug fields.

In a class of its own, so that where neither is wanted neither costs anything.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from weldr.proxy.context import Context
from weldr.proxy.exchange import Exchange
from weldr.proxy.request_head import RequestHead
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.spans import Span
from weldr.proxy.trace_context import has_good_state, trace_context, with_parent
from weldr.proxy.verdicts import CLOSED_AT_ONCE, LOST

if TYPE_CHECKING:
    from weldr.proxy.client_connection import ClientConnection
    from weldr.proxy.pool import BackendPool

_MOST_TEXT = 256
_MOST_TRIES = 16


class ObservedExchange(Exchange):
    """See the module."""

    __slots__ = ("_is_debugged", "_parent", "_recorded", "_span_id", "_state_kept", "_trace_id", "_tries")

    def __init__(
        self, context: Context, client: ClientConnection, head: RequestHead, body: list[bytes], complete: bool
    ) -> None:
        """As the exchange."""
        super().__init__(context, client, head, body, complete)
        observer = context.observer
        self._is_debugged = observer.debug is not None and self.client_address in observer.debug
        lines = head.fields.lines
        self._parent = trace_context(lines)
        self._state_kept = self._parent is not None and has_good_state(lines)
        self._recorded: Span | None = None
        self._tries: list[tuple[BackendPool | None, Span]] = []
        begins_trace = observer.tracing.start or observer.queue is not None
        if self._parent is not None:
            self._trace_id = self._parent.trace_id
        elif begins_trace:
            self._trace_id = b"%032x" % (random.getrandbits(128) or 1)
        else:
            self._trace_id = b""
        self._span_id = _span_id()
        if observer.queue is not None and observer.records(self._parent):
            self._recorded = self._begun()

    def _begun(self) -> Span:
        head = self.head
        return Span(
            name=_text(head.method),
            kind="server",
            trace_id=self._trace_id,
            span_id=self._span_id,
            parent_id=None if self._parent is None else self._parent.span_id,
            start_ns=time.time_ns(),
            attributes={
                "http.request.method": _text(head.method),
                # Without the query, in which secrets are.
                "url.path": _text(head.target.partition(b"?")[0]),
                "url.scheme": "http",
                "server.address": _text(head.route_host),
                "client.address": self.client_address,
                "network.protocol.version": "1.1" if head.version_11 else "1.0",
            },
        )

    # Tries.

    def request_lines(self) -> bytes:
        """The head as a backend gets it: each try has its own place in the trace."""
        head = super().request_lines()
        if self._recorded is not None:
            span = self._try_begins(self._recorded)
            return with_parent(head, self._trace_id, span.span_id, sampled=True, keep_state=self._state_kept)
        if self._parent is not None and self._state_kept:
            return head
        if not self._trace_id or (self._parent is None and not self._context.observer.tracing.start):
            return head
        span_id = self._span_id if self._parent is None else self._parent.span_id
        sampled = self._parent is not None and self._parent.sampled
        return with_parent(head, self._trace_id, span_id, sampled=sampled, keep_state=False)

    def _try_begins(self, recorded: Span) -> Span:
        supervision = self._supervision
        hedge = None if supervision is None else supervision.hedge
        pool = self._pool if hedge is None else hedge.pool
        span = Span(
            name=recorded.name,
            kind="client",
            trace_id=self._trace_id,
            span_id=_span_id(),
            parent_id=self._span_id,
            start_ns=time.time_ns(),
            attributes={"http.request.method": recorded.name},
        )
        if pool is not None:
            service, backend, host, port = pool.key
            span.attributes |= {
                "weldr.service": service,
                "weldr.backend": backend,
                "server.address": host,
                "server.port": port,
            }
        if self._tries:
            span.attributes["http.request.resend_count"] = len(self._tries)
        if len(self._tries) < _MOST_TRIES:
            self._tries.append((pool, span))
        return span

    def _try_of(self, pool: BackendPool | None) -> Span | None:
        return next((span for at, span in reversed(self._tries) if at is pool and not span.end_ns), None)

    def _note_answer(self, head: ResponseHead) -> None:
        span = self._try_of(self._pool)
        if span is not None:
            span.attributes["http.response.status_code"] = head.status
            if head.status >= 500:
                span.error = f"it answered with status {head.status}"
                span.attributes["error.type"] = str(head.status)
        super()._note_answer(head)

    def _note_failure(self, reason: str) -> None:
        self._try_failed(reason)
        super()._note_failure(reason)

    def upstream_unsent(self, unsent: bytes) -> None:
        """The connection had ended before."""
        self._try_failed(CLOSED_AT_ONCE.reason)
        super().upstream_unsent(unsent)

    def _repeat(self) -> None:
        # Of what was not sent that has been said.
        self._try_failed(LOST.reason)
        super()._repeat()

    def _try_failed(self, reason: str) -> None:
        span = self._try_of(self._pool)
        if span is not None:
            span.end_ns = time.time_ns()
            span.error = reason
            span.attributes["error.type"] = "failed"

    # What the client gets.

    def upstream_answered(self, head: ResponseHead, body: bytes) -> bool:
        """By the short cut only where nothing more is to be told: it has no place for that."""
        if self._recorded is not None or self._is_debugged:
            return False
        return super().upstream_answered(head, body)

    def _response_head(self, head: ResponseHead) -> tuple[bytes, ...]:
        self._cookie_line += self._debug_lines()
        return super()._response_head(head)

    def _debug_lines(self) -> bytes:
        if not self._is_debugged:
            return b""
        pool, route = self._pool, self.route
        facts = {
            "Route": "" if route is None else route.name,
            "Service": self._service_name,
            "Backend": "" if pool is None else f"{pool.key[1]} {pool.authority}",
            "Tries": str(len(self.tried_backends())),
            "Revision": str(self._context.observer.revision),
        }
        return b"".join(
            b"\r\nWeldr-%b: %b" % (name.encode("ascii"), _field_value(value)) for name, value in facts.items()
        )

    def _end(self) -> None:
        recorded = self._recorded
        if recorded is not None:
            self._recorded = None
            self._finish(recorded)
        super()._end()

    def _finish(self, recorded: Span) -> None:
        observer, verdict, now_ns = self._context.observer, self.verdict, time.time_ns()
        recorded.end_ns = now_ns
        recorded.attributes["weldr.service"] = self._service_name
        recorded.attributes["weldr.request_id"] = _text(self.request_id)
        if self.route is not None:
            recorded.attributes["weldr.route"] = self.route.name
        if self._status:
            recorded.attributes["http.response.status_code"] = self._status
        if verdict is not None and verdict.error is not None:
            recorded.attributes["error.type"] = verdict.error
            recorded.error = verdict.reason[:_MOST_TEXT]
        elif self._status >= 500:
            recorded.attributes["error.type"] = str(self._status)
            recorded.error = f"the status is {self._status}"
        elif not self._status:
            recorded.error = "the client left before there was an answer"
        for _, span in self._tries:
            span.end_ns = span.end_ns or now_ns
        if observer.queue is not None:
            spans = [recorded, *(span for _, span in self._tries)]
            observer.queue.put(spans, self._context.now_s(), observer.tracing.spans_per_second)


def _span_id() -> bytes:
    return b"%016x" % (random.getrandbits(64) or 1)


def _text(value: bytes) -> str:
    return value[:_MOST_TEXT].decode("utf-8", "backslashreplace")


def _field_value(text: str) -> bytes:
    # Names in keys may be anything.
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    return quote(text, safe=" /:[]", errors="backslashreplace").encode("ascii")
