"""`GET /metrics`, for Prometheus and whoever reads its formats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus

from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.problem import ProblemError
from weldr.control.metrics.exposition import Part, takes_openmetrics, written

_MOST_WAITING = 8
_APART_BYTES = 16 * 1024

Sources = Callable[[], Iterable[Iterable[Part]]]


class MetricsEndpoint:
    """Writes one text at a time. Who comes meanwhile waits for the next, which is the same for all who do."""

    def __init__(self, sources: Sources) -> None:
        """`sources` are asked anew for each text."""
        self._sources = sources
        self._turn = asyncio.Lock()
        self._next: dict[bool, asyncio.Task[tuple[bytes, str]]] = {}
        """Texts that are not begun yet, by whether they are OpenMetrics."""
        self._waiting = 0

    def endpoints(self) -> list[Endpoint]:
        """The one."""
        return [
            Endpoint(
                "GET",
                "/metrics",
                "metrics",
                "Metrics, in OpenMetrics or Prometheus' text format as Accept asks",
                self._metrics,
                {200: {"type": "string"}},
                answer_type="text/plain",
            )
        ]

    async def _metrics(self, call: Call) -> web.Response:
        if self._waiting >= _MOST_WAITING:
            detail = f"{_MOST_WAITING} others wait for the metrics already: ask less often"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            text, media_type = await self.text(
                openmetrics=takes_openmetrics(call.request.headers.get("Accept", ""))
            )
        finally:
            self._waiting -= 1
        # Also compressed apart from the event loop.
        response = web.Response(
            body=text, headers={"Content-Type": media_type}, zlib_executor_size=_APART_BYTES
        )
        response.enable_compression()
        return response

    async def text(self, *, openmetrics: bool) -> tuple[bytes, str]:
        """Metrics as they are from now on, never as they were before, and their media type."""
        writing = self._next.get(openmetrics)
        if writing is None:
            writing = self._next[openmetrics] = asyncio.create_task(self._write(openmetrics), name="metrics")
        # One who leaves takes nothing from the others.
        return await asyncio.shield(writing)

    async def _write(self, openmetrics: bool) -> tuple[bytes, str]:
        async with self._turn:
            del self._next[openmetrics]
            return await written(self._sources(), openmetrics=openmetrics)
