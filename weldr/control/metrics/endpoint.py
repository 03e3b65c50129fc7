"""`GET /metrics`, for Prometheus and whoever reads its formats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from http import HTTPStatus

from aiohttp import web
from prometheus_client.metrics_core import Metric

from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.problem import ProblemError
from weldr.control.metrics.exposition import written

_MOST_WAITING = 8
_APART_BYTES = 16 * 1024

Sources = Callable[[], Iterable[Iterable[Metric]]]


class MetricsEndpoint:
    """Writes for one at a time; some may wait."""

    def __init__(self, sources: Sources) -> None:
        """`sources` are asked anew for each answer."""
        self._sources = sources
        self._turn = asyncio.Lock()
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
            async with self._turn:
                text, media_type = await written(self._sources(), call.request.headers.get("Accept", ""))
        finally:
            self._waiting -= 1
        # Also compressed apart from the event loop.
        response = web.Response(
            body=text, headers={"Content-Type": media_type}, zlib_executor_size=_APART_BYTES
        )
        response.enable_compression()
        return response
