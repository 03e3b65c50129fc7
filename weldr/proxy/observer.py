"""What a worker tells of single requests, beside the access log: traces and debug fields."""

from __future__ import annotations

import random

from weldr.model.tracing import TracingSettings
from weldr.proxy.networks import NetworkSet
from weldr.proxy.spans import SpanQueue
from weldr.proxy.trace_context import TraceContext


class Observer:
    """One for each worker."""

    def __init__(self) -> None:
        self.tracing = TracingSettings()
        self.queue: SpanQueue | None = None
        """Where spans go; `None` if nobody exports them."""
        self.debug: NetworkSet | None = None
        """Whose clients are told the way of their requests."""
        self.revision = 0
        """Of the configuration in force."""

    @property
    def is_needed(self) -> bool:
        """Whether requests have to be looked at at all."""
        return self.tracing.start or self.debug is not None or (self.queue is not None and self._records)

    @property
    def _records(self) -> bool:
        return self.tracing.follow_callers or self.tracing.sample > 0

    def records(self, came: TraceContext | None) -> bool:
        """Whether spans are made of a request that came as such a part of a trace."""
        if came is not None:
            return self.tracing.follow_callers and came.sampled
        return random.random() < self.tracing.sample
