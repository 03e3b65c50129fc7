"""Spans that wait to be exported are bounded, in number and by the second."""

from __future__ import annotations

from weldr.proxy.spans import Span, SpanQueue


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
