"""Spans that wait to be exported are bounded, in number and by the second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.support.memory_worker import OK, MemoryWorker
from weldr.model.tracing import TracingSettings
from weldr.model.values import Service
from weldr.proxy.spans import Span, SpanQueue


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def spans(count: int) -> list[Span]:
    return [Span("GET", "server", b"1" * 32, b"2" * 16, None, 1) for _ in range(count)]


def test_no_more_are_taken_in_a_second_than_may_be() -> None:
    queue = SpanQueue()
    for now_s in (7.0, 7.5, 7.9):
        queue.put(spans(2), now_s, 4)
    assert queue.dropped == 2
    queue.put(spans(2), 8.0, 4)
    assert (queue.dropped, len(queue.take(100))) == (2, 6)


def test_what_nobody_takes_is_bounded() -> None:
    queue = SpanQueue()
    for second in range(20):
        queue.put(spans(1000), float(second), 100_000)
    assert queue.dropped == 12_000
    assert len(queue.take(1_000_000)) == 8000


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_try_whose_kept_connection_had_ended_says_so(loop: MemoryLoop, is_sent: bool) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    client = worker.client()
    worker.warm([client])
    observer = worker.context.observer
    observer.queue, observer.tracing = SpanQueue(), TracingSettings(start=True, sample=1.0)
    worker.context.observed = True
    client.deliver(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    if is_sent:
        loop.settle()
    worker.links[0].deliver_reset()
    loop.settle()
    worker.links[1].deliver(OK % (2, b"ok"))
    loop.settle()
    assert client.received.endswith(b"ok")
    request, first, second = observer.queue.take(9)
    reason = "without a response" if is_sent else "unasked"
    assert reason in (first.error or "")
    assert (request.error, second.error) == (None, None)
