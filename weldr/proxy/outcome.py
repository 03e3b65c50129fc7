"""What a try says about its backend and its service, for ejection and for the circuit breaker alike."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from weldr.proxy.context import Context
from weldr.proxy.pool import BackendPool
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.retry_after import retry_after_s

if TYPE_CHECKING:
    from weldr.proxy.supervision import Supervision

# 501 and 505 speak of the request: any client could have a backend ejected by them.
_NOT_THE_BACKENDS_FAULT = frozenset((501, 505))


def answered(context: Context, pool: BackendPool, supervision: Supervision | None, head: ResponseHead) -> None:
    """The backend has answered."""
    is_good = head.status < 500 or head.status in _NOT_THE_BACKENDS_FAULT
    if is_good:
        pool.health.successes += 1
    elif head.status == 503 and (rest_s := retry_after_s(head.fields.lines, time())) is not None:
        pool.rest(context.now_s(), rest_s)
    else:
        pool.failed(context.now_s(), f"it answered with status {head.status}")
    if supervision is not None:
        supervision.answered(is_good)


def failed(context: Context, pool: BackendPool, supervision: Supervision | None, reason: str) -> None:
    """The backend did not answer."""
    pool.failed(context.now_s(), reason)
    if supervision is not None:
        supervision.failed()


def failed_late(
    context: Context, pool: BackendPool, supervision: Supervision | None, reason: str, lasted_s: float
) -> None:
    """The backend has answered well, but not to the end: `lasted_s` after its response had begun."""
    pool.failed_late(context.now_s(), reason, lasted_s)
    if supervision is not None:
        supervision.failed()
