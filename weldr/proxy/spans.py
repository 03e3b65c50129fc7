"""What is recorded of requests in traces, on its way to whoever exports it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

_MOST_WAITING = 8192


@dataclass(slots=True)
class Span:
    """One piece of work, as OpenTelemetry has it."""

    name: str
    kind: Literal["server", "client"]
    trace_id: bytes
    """In digits, as are the others."""
    span_id: bytes
    parent_id: bytes | None
    start_ns: int
    """By the wall clock, as the end."""
    end_ns: int = 0
    attributes: dict[str, str | int] = field(default_factory=dict)
    error: str | None = None
    """Why it failed."""


class SpanQueue:
    """Between the event loop and the exporter's thread. What does not fit is dropped and counted."""

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: deque[Span] = deque()
        self._second = 0
        self._this_second = 0

    def put(self, spans: list[Span], now_s: float, most_per_second: int) -> None:
        """All of these, or none."""
        if int(now_s) != self._second:
            self._second, self._this_second = int(now_s), 0
        if self._this_second + len(spans) > most_per_second or len(self._waiting) + len(spans) > _MOST_WAITING:
            self.dropped += len(spans)
            return
        self._this_second += len(spans)
        self._waiting.extend(spans)

    def take(self, most: int) -> list[Span]:
        """The oldest; called by the thread alone."""
        taken: list[Span] = []
        while self._waiting and len(taken) < most:
            taken.append(self._waiting.popleft())
        return taken
