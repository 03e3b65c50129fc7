"""W3C Trace Context, by the cases of its recommendation."""

from __future__ import annotations

import pytest

from weldr.proxy.trace_context import TraceContext, has_good_state, trace_context, with_parent

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-" + TRACE + b"-" + SPAN + b"-01"


def lines(*fields: bytes) -> bytes:
    return b"".join(b"\r\n" + each for each in (b"A: b", *fields, b"C: d")) + b"\r\n"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (GOOD, True),
        (GOOD[:-2] + b"00", False),
        (GOOD[:-2] + b"03", True),
        # A later version may say more.
        (b"cc" + GOOD[2:] + b"-what-the-future-brings", True),
        (b"cc" + GOOD[2:], True),
    ],
)
def test_a_place_in_a_trace_is_understood(value: bytes, sampled: bool) -> None:
    assert trace_context(lines(b"TraceParent: " + value)) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"ff" + GOOD[2:],
        GOOD + b"-more",
        GOOD[:-1],
        GOOD.upper(),
        GOOD.replace(TRACE, b"0" * 32),
        GOOD.replace(SPAN, b"0" * 16),
        GOOD.replace(b"-", b"_"),
        b"cc" + GOOD[2:] + b".more",
        b"0" + GOOD,
        GOOD + b", " + GOOD,
    ],
)
def test_what_is_malformed_is_no_place_in_a_trace(value: bytes) -> None:
    assert trace_context(lines(b"traceparent: " + value)) is None


def test_two_of_them_are_none() -> None:
    assert trace_context(lines(b"traceparent: " + GOOD, b"traceparent: " + GOOD)) is None
    assert trace_context(lines(b"x-traceparent: " + GOOD)) is None


@pytest.mark.parametrize(
    ("values", "good"),
    [
        ([], True),
        ([b"a=1,b=2"], True),
        ([b"a=1 , ,b=2", b"fw529a3039@dt=FfAAAAAAAAAA"], True),
        ([b"a=1", b"a=2"], False),
        ([b"A=1"], False),
        ([b"a"], False),
        ([b"a=\x7f"], False),
        ([b",".join(b"a%d=1" % number for number in range(33))], False),
    ],
)
def test_the_state_is_judged_as_a_whole(values: list[bytes], good: bool) -> None:
    assert has_good_state(lines(*(b"tracestate: " + value for value in values))) is good


def test_a_head_gets_another_place_and_keeps_the_state_if_that_is_good() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\ntraceparent: x\r\ntracestate: a=1\r\nB: c\r\n\r\n"
    line = b"\r\ntraceparent: 00-" + TRACE + b"-" + SPAN + b"-00\r\n\r\n"
    assert with_parent(head, TRACE, SPAN, sampled=False, keep_state=True) == (
        b"GET / HTTP/1.1\r\nHost: a\r\ntracestate: a=1\r\nB: c" + line
    )
    assert with_parent(head, TRACE, SPAN, sampled=False, keep_state=False) == (
        b"GET / HTTP/1.1\r\nHost: a\r\nB: c" + line
    )
