"""Sends spans over OTLP, by OpenTelemetry's own exporter, in a thread: nothing here is in the way of a request.

Imported only where traces are exported, since its packages come with the extra `otel`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from weldr.proxy.spans import Span, SpanQueue
from weldr.version import __version__

logger = logging.getLogger(__name__)

_PATH = "/v1/traces"
_INTERVAL_S = 1.0
_AT_A_TIME = 512
_TIMEOUT_S = 10.0
_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}


class SpanExporter:
    """Owner of the thread. It ends with the process; `close` has it send what is left first."""

    def __init__(self, queue: SpanQueue, url: str, instance: str) -> None:
        """`url` is the collector's, with or without the path of traces."""
        self.exported = 0
        self.failed = 0
        self._queue = queue
        address = url.rstrip("/")
        self._exporter = OTLPSpanExporter(
            endpoint=address if address.endswith(_PATH) else address + _PATH, timeout=_TIMEOUT_S
        )
        self._resource = Resource.create(
            {"service.name": "weldr", "service.version": __version__, "service.instance.id": instance}
        )
        self._over = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Send what there is; wait for that no longer than this."""
        self._over.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self._send_all()
        self._send_all()

    def _send_all(self) -> None:
        while spans := self._queue.take(_AT_A_TIME):
            self._send(spans)

    def _send(self, spans: Sequence[Span]) -> None:
        try:
            result = self._exporter.export([self._readable(span) for span in spans])
        except Exception as error:
            result = SpanExportResult.FAILURE
            reason = f"{type(error).__name__}: {error}"
        else:
            reason = "the collector does not take them"
        good = result is SpanExportResult.SUCCESS
        if good:
            self.exported += len(spans)
        else:
            self.failed += len(spans)
        if not good and not self._is_failing:
            logger.warning("spans cannot be exported", extra={"reason": reason})
        elif good and self._is_failing:
            logger.info("spans are exported again")
        self._is_failing = not good

    def _readable(self, span: Span) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=None if span.parent_id is None else _context(span.trace_id, span.parent_id, remote=True),
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )


def _context(trace_id: bytes, span_id: bytes, *, remote: bool = False) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))
