"""Counts of what was asked of etcd: how often, with what outcome, and how long it took."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Literal

from weldr.etcd.errors import EtcdAuthError, EtcdError, EtcdTimeoutError, EtcdUnavailableError
from weldr.model.latency import TICK_BITS, bucket_of

Outcome = Literal["ok", "timeout", "unavailable", "unauthorized", "refused", "canceled", "failed"]


class Calls:
    """Owner of the counts. Each attempt is one call."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        """By operation, which is etcd's name for the request, and outcome."""
        self.latencies: dict[str, Counter[int]] = {}
        """By operation and bucket, whatever the outcome."""

    def ended(self, operation: str, elapsed_ns: int, error: BaseException | None) -> None:
        """An attempt is over."""
        self.outcomes[operation, _outcome(error)] += 1
        self.latencies.setdefault(operation, Counter())[bucket_of(elapsed_ns >> TICK_BITS)] += 1


def _outcome(error: BaseException | None) -> Outcome:
    match error:
        case None:
            return "ok"
        case EtcdTimeoutError():
            return "timeout"
        case EtcdUnavailableError():
            return "unavailable"
        case EtcdAuthError():
            return "unauthorized"
        case EtcdError():
            return "refused"
        case asyncio.CancelledError():
            return "canceled"
    return "failed"
