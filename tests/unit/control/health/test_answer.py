"""This answer comes, in one piece and byte by byte, and that is the judgement."""

from __future__ import annotations

import pytest

from weldr.control.health.answer import MAX_BODY_BYTES, MAX_HEAD_BYTES, Answer
from weldr.model.health import HealthCheck

OK = HealthCheck()
WITH_BODY = HealthCheck(body="all is well")


@pytest.mark.parametrize(
    ("check", "data", "failure"),
    [
        (OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", None),
        (OK, b"HTTP/1.0 204\r\n\r\n", None),
        (OK, b"HTTP/1.1 200 OK\nServer: old\n\n", None),
        (OK, b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", None),
        (OK, b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", None),
        (OK, b"HTTP/1.1 503 No\r\n\r\n", "it answered with status 503, not 200-399"),
        (
            OK,
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 No\r\n\r\n",
            "it answered with status 500, not 200-399",
        ),
        (OK, b"", "it closed the connection without an answer"),
        (OK, b"HTTP/1.1 200 OK\r\nContent-Len", "its answer is not of HTTP/1, or has no end"),
        (OK, b"SSH-2.0-OpenSSH\r\n\r\n", "its answer is not of HTTP/1, or has no end"),
        (WITH_BODY, b"HTTP/1.1 200 OK\r\n\r\nsay: all is well, yes", None),
        (WITH_BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall is well", None),
        (
            WITH_BODY,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n7;x=y\r\nis well\r\n0\r\n\r\n",
            None,
        ),
        (
            WITH_BODY,
            b"HTTP/1.1 200 OK\r\nX: all is well\r\nContent-Length: 4\r\n\r\nsick",
            "the body of its answer does not hold 'all is well'",
        ),
        (
            WITH_BODY,
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsickall is well",
            "the body of its answer does not hold 'all is well'",
        ),
        (WITH_BODY, b"HTTP/1.1 500 No\r\n\r\nall is well", "it answered with status 500, not 200-399"),
    ],
)
@pytest.mark.parametrize("step", [1, 10_000])
def test_an_answer_is_judged(check: HealthCheck, data: bytes, failure: str | None, step: int) -> None:
    answer = Answer(check)
    for position in range(0, len(data), step):
        if answer.feed(data[position : position + step]):
            break
    assert answer.failure() == failure


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nsick",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsick\r\n0\r\n\r\n",
        b"HTTP/1.1 204 OK\r\n\r\n",
    ],
)
def test_a_body_that_is_complete_is_judged_although_the_connection_stays_open(data: bytes) -> None:
    assert Answer(WITH_BODY).feed(data)


def test_an_answer_without_an_end_is_not_read_for_ever() -> None:
    answer = Answer(OK)
    fed = 0
    while not answer.feed(b"X" * 1000):
        fed += 1000
    assert fed <= MAX_HEAD_BYTES
    answer = Answer(WITH_BODY)
    assert not answer.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    fed = 0
    while not answer.feed(b"X" * 1000):
        fed += 1000
    assert fed <= MAX_BODY_BYTES
