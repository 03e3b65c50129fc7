"""A request's second try beside its first, at another backend.

| state      | meaning                          | leaves it                                                    |
|------------|----------------------------------|--------------------------------------------------------------|
| connecting | a connection is made             | made -> waiting; refused, or no longer needed -> ended       |
| waiting    | the request is sent; no head yet | a good head, or the first try fails -> adopted; a failure,   |
|            |                                  | or a status for which one tries another backend, or the      |
|            |                                  | first try was not sent and begins anew -> ended              |
| adopted    | the exchange has the connection  |                                                              |
| ended      | nothing of it is left            |                                                              |

Whichever of the two loses has its connection closed: what comes on it belongs to nobody any more.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from weldr.proxy import outcome
from weldr.proxy.connect import ConnectError, connect
from weldr.proxy.context import Context
from weldr.proxy.pool import BackendPool
from weldr.proxy.response_fields import ResponseInvalidError
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.upstream_connection import UpstreamConnection
from weldr.proxy.verdicts import LOST, NOT_READING, SILENT

if TYPE_CHECKING:
    from weldr.proxy.dispatch import Dispatch
    from weldr.proxy.service_table import ServiceTable
    from weldr.proxy.supervision import Supervision


_MOST_INTERIM = 16
"""So many interim responses, the latest, are kept for the client, who gets none before the hedge has won."""


class Hedge:
    """See the module. It is the user of its connection until the exchange is."""

    __slots__ = ("_context", "_ended", "_exchange", "_service", "_supervision", "pool", "sent_ns", "upstream")

    def __init__(
        self,
        context: Context,
        exchange: Dispatch,
        supervision: Supervision,
        service: ServiceTable,
        pool: BackendPool,
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._supervision = supervision
        self._service = service
        self._ended = False
        self.pool = pool
        self.upstream: UpstreamConnection | None = None
        """Once the request is sent."""
        self.sent_ns = 0

    def begin(self) -> None:
        """Send the request, over a kept connection or a new one."""
        self.pool.enter()
        upstream = self.pool.take()
        if upstream is None:
            self._context.spawn(self._connect(), "hedge")
        else:
            self._send(upstream)

    async def _connect(self) -> None:
        try:
            await self._send_on_new_connection()
        except Exception as error:
            self._context.fault("hedge", error)
            self.give_up()

    async def _send_on_new_connection(self) -> None:
        try:
            upstream = await connect(self._context, self.pool, self._supervision, self._service.connect_s)
        except ConnectError:
            self._fail()
            return
        if self._ended or self.pool.stopped:
            upstream.close()
            self._fail()
        else:
            self._send(upstream)

    def _send(self, upstream: UpstreamConnection) -> None:
        self.upstream = upstream
        service = self._service
        self.sent_ns = perf_counter_ns()
        service.budget.sent += 1
        head, lines = self._exchange.head, self._exchange.request_lines()
        upstream.deadline_s = self._context.now_s() + service.response_s
        upstream.begin(self, head.method, lines, service.read_s, self._context.fleet.table.limits)

    # From its backend.

    def upstream_received(self) -> None:
        """The reader has news. Interim responses are passed on only by who has the final one."""
        upstream = self.upstream
        assert upstream is not None
        head = upstream.reader.head
        if head is None:
            if upstream.reader.interim is not None:
                del upstream.reader.interim[:-_MOST_INTERIM]
            return
        if head.status == 101 or head.status in self._service.retries.statuses:
            outcome.answered(self._context, self.pool, None, head)
            self._supervision.failed()
            self._fail()
            return
        self._exchange.hedge_answered(self)

    def upstream_answered(self, head: ResponseHead, body: bytes) -> bool:
        """Never by the short cut: whether it is to win is decided when it is read."""
        return False

    def upstream_congested(self, congested: bool) -> None:
        """A request without a body is read at once, or its time for a response passes."""

    def upstream_invalid(self, error: ResponseInvalidError) -> None:
        """What the backend sent is no response, or ends too early."""
        self._failed_at_backend(error.reason)

    def upstream_unsent(self, unsent: bytes) -> None:
        """The connection had ended before: so it goes when one takes a kept one."""
        self._fail()

    def upstream_lost(self) -> None:
        """The connection is gone before the response was complete."""
        upstream = self.upstream
        # A kept connection may have been closed for its age, which says nothing of the backend.
        if upstream is not None and upstream.used and not upstream.reader.started:
            self._fail()
        else:
            self._failed_at_backend(LOST.reason)

    def upstream_timed_out(self, *, writing: bool) -> None:
        """The backend has not sent, or not read, anything for too long."""
        self._failed_at_backend((NOT_READING if writing else SILENT).reason)

    def _failed_at_backend(self, reason: str) -> None:
        outcome.failed(self._context, self.pool, self._supervision, reason)
        self._fail()

    def give_up(self) -> None:
        """An exception that nobody expected."""
        self._exchange.give_up()

    # The end.

    def _fail(self) -> None:
        if not self._ended:
            self._supervision.hedge = None
            self.end()

    def end(self) -> None:
        """It is not needed any more."""
        self._ended = True
        if self.upstream is not None:
            self.upstream.abort()
        self.pool.leave()
