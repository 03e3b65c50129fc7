"""What one request gets beside its exchange, if its service's policy asks for more than the ordinary: a place
among those in flight, a ticket of the circuit breaker, a deadline, a time for each try, and a hedge.

It ends with its exchange, and then holds none of them.
"""

from __future__ import annotations

import logging
import re
from asyncio import TimerHandle
from enum import Enum
from functools import lru_cache
from time import perf_counter_ns
from typing import TYPE_CHECKING

from weldr.model.resilience import Deadline
from weldr.proxy.breaker import Breaker, Ticket
from weldr.proxy.breaker import State as BreakerState
from weldr.proxy.context import Context
from weldr.proxy.hedge import Hedge

if TYPE_CHECKING:
    from weldr.proxy.dispatch import Dispatch
    from weldr.proxy.service_table import ServiceTable

logger = logging.getLogger(__name__)

_MAX_TIMEOUT_DIGITS = 9
_LASTS_S = 1.0
"""So long after its head, a response is a stream or a slow client's download, and tells nothing of load."""


class Admission(Enum):
    """Whether a request may be given to a backend."""

    ADMITTED = "admitted"
    FULL = "full"
    """As many are in flight as may be."""
    REFUSED = "refused"
    """Too many have failed."""


class Supervision:
    """See the module."""

    __slots__ = (
        "_admitted",
        "_breaker",
        "_context",
        "_deadline",
        "_deadline_s",
        "_deadline_timer",
        "_exchange",
        "_guard",
        "_is_answered",
        "_is_hedged",
        "_sent_ns",
        "_service",
        "_ticket",
        "_timers",
        "hedge",
        "is_shortened",
    )

    def __init__(self, context: Context, exchange: Dispatch, service: ServiceTable) -> None:
        self._context = context
        self._exchange = exchange
        self._service = service
        self._guard = service.guard
        self._admitted = False
        self._is_answered = False
        self._breaker: Breaker | None = None
        """Whose the ticket is: the service may have got another one since."""
        self._ticket: Ticket | None = None
        """Until its outcome is known."""
        self._sent_ns = 0
        """When all of the request was sent, by the present try; 0 before that."""
        self._timers: list[TimerHandle] = []
        """Of the present try."""
        self.hedge: Hedge | None = None
        """The try at a second backend, if one is under way."""
        self._is_hedged = False
        self.is_shortened = False
        """Whether the deadline is the client's wish and not the service's."""
        self._deadline = service.policy.deadline
        self._deadline_timer: TimerHandle | None = None
        if self._deadline is not None:
            self._begin_deadline(self._deadline)

    # The deadline.

    def _begin_deadline(self, deadline: Deadline) -> None:
        left_s = deadline.total_s
        asked = _line_of(deadline.header).search(self._exchange.head.fields.lines)
        if asked is not None and asked[1].isdigit() and len(asked[1]) <= _MAX_TIMEOUT_DIGITS:
            asked_s = int(asked[1]) / 1000
            self.is_shortened = asked_s < left_s
            left_s = min(left_s, asked_s)
        self._deadline_s = self._context.now_s() + left_s
        self._deadline_timer = self._exchange.later(left_s, self._exchange.deadline_passed)

    def with_deadline(self, head: bytes) -> bytes:
        """The head for a backend, with what is left of the time."""
        deadline = self._deadline
        if deadline is None:
            return head
        left_ms = max(1, int((self._deadline_s - self._context.now_s()) * 1000))
        head = _line_of(deadline.header).sub(b"", head)
        return b"%b%b: %d\r\n\r\n" % (head[:-2], deadline.header.encode("ascii"), left_ms)

    def tunnel_begins(self) -> None:
        """What follows is no response, and may take as long as it likes."""
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._leave_adaptive_limit()

    def response_begins(self) -> None:
        """Its head has come, and more of it is to come."""
        if self._guard.gradient is None:
            # Should there be such a limit while it lasts, it has no place in that.
            self._leave_adaptive_limit()
        else:
            self._timers.append(self._exchange.later(_LASTS_S, self._response_lasts))

    def _response_lasts(self) -> None:
        self._leave_adaptive_limit()
        self._service.wake()

    def _leave_adaptive_limit(self) -> None:
        if self._admitted and not self._is_answered:
            self._is_answered = True
            self._guard.pending.answered += 1

    # Its place among others.

    def admit(self, service: ServiceTable) -> Admission:
        """Take a place and a ticket, unless it has them."""
        if self._admitted:
            return Admission.ADMITTED
        self._service = service
        guard = self._guard = service.guard
        if guard.pending.full:
            return Admission.FULL
        breaker = self._breaker = guard.breaker
        if breaker is not None:
            self._ticket = breaker.admit(self._context.now_s())
            if self._ticket is None:
                return Admission.REFUSED
        guard.pending.in_flight += 1
        self._admitted = True
        return Admission.ADMITTED

    def withdraw(self) -> bool:
        """Give place and ticket back: the request waits, or is over. False if it had none."""
        if not self._admitted:
            return False
        self._admitted = False
        self._guard.pending.in_flight -= 1
        if self._is_answered:
            self._is_answered = False
            self._guard.pending.answered -= 1
        if self._ticket is not None and self._breaker is not None:
            self._breaker.abandoned(self._ticket)
        self._ticket = None
        return True

    @property
    def lets_retry(self) -> bool:
        """Whether the service is well enough for its requests to be sent again."""
        breaker = self._guard.breaker
        return breaker is None or breaker.state is BreakerState.CLOSED

    # What becomes of its tries.

    def sent(self) -> None:
        """All of the request is at a backend."""
        self._sent_ns = perf_counter_ns()
        exchange, policy = self._exchange, self._service.policy
        if not exchange.is_repeatable:
            return
        self._limit_try()
        latency = self._guard.latency
        if policy.hedging is None or latency is None or latency.known_s is None or self._is_hedged:
            return
        if exchange.head.fields.upgrade is None:
            wait_s = max(policy.hedging.minimum_s, latency.known_s)
            self._timers.append(exchange.later(wait_s, self._hedge))

    def _limit_try(self, since_s: float = 0.0) -> None:
        """Give the present try, sent so long ago, the rest of its time."""
        per_try_s = self._service.retries.per_try_s
        if per_try_s is not None:
            left_s = max(0.0, per_try_s - since_s)
            self._timers.append(self._exchange.later(left_s, self._exchange.try_timed_out))

    def answered(self, is_good: bool) -> None:
        """The present try has brought a response, good or not."""
        self.forget_try()
        if is_good:
            self._note_latency()
        self._judge(is_good)

    def failed(self) -> None:
        """A try has brought none, or none that is complete."""
        self._judge(False)

    def forget_try(self) -> None:
        """The present try is over."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def timed_out(self) -> None:
        """The present try is given up for its time: its latency is that at least."""
        self.forget_try()
        self._note_latency()

    def _note_latency(self) -> None:
        if not self._sent_ns:
            return
        now_s, guard = self._context.now_s(), self._guard
        # The event loop's clock counts in milliseconds, and stands still between two looks at the sockets.
        latency_s = (perf_counter_ns() - self._sent_ns) / 1e9
        if guard.latency is not None:
            guard.latency.add(latency_s)
        if guard.gradient is not None:
            guard.gradient.answered(now_s, latency_s, guard.pending.unanswered)

    def _judge(self, is_good: bool) -> None:
        breaker, ticket = self._breaker, self._ticket
        if breaker is None or ticket is None or breaker is not self._guard.breaker:
            return
        name, now_s = self._service.name, self._context.now_s()
        if is_good:
            if breaker.succeeded(now_s, ticket):
                self._context.fleet.circuit_changed()
                logger.info("a service that failed works again", extra={"service": name})
            # A trial counts once; and if it fails later, that is no trial's failure.
            self._ticket = None
        elif breaker.failed(now_s, ticket):
            self._context.accounts.incidents(name).circuit_openings += 1
            self._context.fleet.circuit_changed()
            wait_s = breaker.wait_s(now_s)
            logger.warning(
                "too many requests to a service fail: it gets none for a while",
                extra={"service": name, "wait_s": wait_s},
            )
            self._guard.pending.wake_all()

    # The hedge.

    def _hedge(self) -> None:
        """The response is late: ask another backend, too."""
        self._is_hedged = True
        service, exchange = self._service, self._exchange
        if not exchange.awaits_response or not self.lets_retry or self.hedge is not None:
            return
        pool = service.with_room(exchange.tried_backends())
        if pool is None:
            return
        incidents = self._context.accounts.incidents(service.name)
        if not service.budget.take(self._context.now_s()):
            incidents.budget_exhausted += 1
        else:
            incidents.hedges += 1
            self.hedge = Hedge(self._context, exchange, self, service, pool)
            self.hedge.begin()

    def hedge_won(self, hedge: Hedge) -> None:
        """The request is the hedge's now; of the first try is only known that it took longer than this."""
        self.forget_try()
        self._note_latency()
        self._context.accounts.incidents(self._service.name).hedges_won += 1
        self._sent_ns = hedge.sent_ns
        self.hedge = None

    def take_hedge(self) -> Hedge | None:
        """The first try has failed: the hedge in its place, if it is under way."""
        hedge, self.hedge = self.hedge, None
        if hedge is None:
            return None
        if hedge.upstream is None:
            hedge.end()
            return None
        self._sent_ns = hedge.sent_ns
        self._limit_try((perf_counter_ns() - hedge.sent_ns) / 1e9)
        return hedge

    def drop_hedge(self) -> None:
        """The first try has been answered first."""
        hedge, self.hedge = self.hedge, None
        if hedge is not None:
            hedge.end()

    # The end.

    def end(self) -> bool:
        """The exchange is over. Whether that has made room in the service."""
        self.forget_try()
        self.drop_hedge()
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        return self.withdraw()


@lru_cache(maxsize=256)
def _line_of(header: str) -> re.Pattern[bytes]:
    """This field's line in a canonical section."""
    return re.compile(rb"\r\n(?i:" + re.escape(header.encode("ascii")) + rb"):[ \t]*([^\r\n]*)")
