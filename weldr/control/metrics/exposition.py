"""Metrics as text, bit by bit: whoever writes down very many lets others have their turn.

The manager's event loop also renews leases and hands changes on to the workers: none of that can wait long.
So a source says often where it may be interrupted, and after each millisecond of work there are two for others:
what they do takes several turns of the loop, and would otherwise wait in each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from weldr.control.metrics.family import Family

SLICE_S = 0.001
PAUSE_S = 0.002
LINES_AT_ONCE = 500

_TEXT = "text/plain; version=0.0.4"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"

Part = Metric | Family | None
"""A metric with all of its samples; or nothing yet, and time for others."""


class _OfOne:
    """A registry of a single metric, as encoders want it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


async def written(
    sources: Iterable[Iterable[Part]], *, openmetrics: bool, clock: Callable[[], float] = time.monotonic
) -> tuple[bytes, str]:
    """All metrics, and their media type."""
    encode, media_type = choose_encoder(_OPENMETRICS if openmetrics else _TEXT)
    blocks: list[bytes] = []
    due_s = clock() + SLICE_S
    for block in _blocks(sources, encode):
        if block:
            blocks.append(block)
        if clock() > due_s:
            await asyncio.sleep(PAUSE_S)
            due_s = clock() + SLICE_S
    if openmetrics:
        blocks.append(b"# EOF\n")
    return b"".join(blocks), media_type


def _blocks(sources: Iterable[Iterable[Part]], encode: Callable[[_OfOne], bytes]) -> Iterator[bytes]:
    """Pieces of the text, each the work of a moment; empty ones, too."""
    for source in sources:
        for part in source:
            if part is None:
                yield b""
                continue
            metric = part.about if isinstance(part, Family) else part
            yield encode(_OfOne(metric)).removesuffix(b"# EOF\n")
            if isinstance(part, Family):
                for first in range(0, len(part.lines), LINES_AT_ONCE):
                    yield "".join(part.lines[first : first + LINES_AT_ONCE]).encode()


def takes_openmetrics(accept: str) -> bool:
    """Whether a client that sends this takes OpenMetrics."""
    # The library fails at a version that is no number; and of all versions the metrics need no more than this.
    return any(
        each.partition(";")[0].strip().lower() == "application/openmetrics-text" for each in accept.split(",")
    )
