"""What is sent again when a backend fails, and what never is (RFC 9110, section 9.2.2)."""

from __future__ import annotations

import pytest

from tests.support import tries as react
from tests.support.http import get, request
from tests.support.tries import Reaction, Tries, backends
from tests.support.worker import Worker, traffic
from weldr.model.resilience import Retries, RetryBudget
from weldr.model.values import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The tests are too many for the budget of a few seconds.
POLICY = Service(retries=Retries(attempts=3, budget=RetryBudget(minimum=1000)))

HARMLESS = {
    "GET": get(),
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "DELETE": b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty PUT": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
}
NEVER = {
    "POST": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "empty POST": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PATCH": b"PATCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower case get": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "PUT": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    "chunked PUT": b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET with a body": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
}
FAILURES: dict[str, tuple[Reaction, int]] = {
    "a reset": (react.reset, 502),
    "a close": (react.close, 502),
    "half a head and a reset": (react.then_reset(b"HTTP/1.1 200 OK\r\n"), 502),
    "502": (react.status(502), 502),
    "503": (react.status(503), 503),
    "504": (react.status(504), 504),
    "503 in pieces": (react.answer(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 503),
    "503 without an end": (react.answer(b"HTTP/1.1 503 No\r\nContent-Length: 100\r\n\r\n"), 503),
}
FINAL: dict[str, tuple[Reaction, int]] = {
    "200": (react.status(200), 200),
    "404": (react.status(404), 404),
    "429": (react.status(429), 429),
    "500": (react.status(500), 500),
    "501": (react.status(501), 501),
    "garbage": (react.answer(b"nonsense\r\n\r\n"), 502),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("kind", HARMLESS)
async def test_a_harmless_request_that_fails_at_one_backend_goes_to_another(
    worker: Worker, kind: str, failure: str
) -> None:
    tries = Tries(FAILURES[failure][0])
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=POLICY))
        assert (await request(worker.port, HARMLESS[kind])).status == 200
    assert sorted(tries.ports) == sorted(ports)


@pytest.mark.parametrize("failure", [each for each in FAILURES if each != "503 without an end"])
@pytest.mark.parametrize("kind", NEVER)
async def test_a_request_that_may_have_had_an_effect_is_never_sent_twice(
    worker: Worker, kind: str, failure: str
) -> None:
    reaction, expected = FAILURES[failure]
    tries = Tries(reaction)
    async with backends(tries, 3) as ports:
        await worker.serve(traffic(*ports, policy=POLICY))
        assert (await request(worker.port, NEVER[kind])).status == expected
    assert len(tries.received) == 1


@pytest.mark.parametrize("answer", FINAL)
async def test_other_answers_are_the_clients(worker: Worker, answer: str) -> None:
    reaction, expected = FINAL[answer]
    tries = Tries(reaction)
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=POLICY))
        assert (await request(worker.port, get())).status == expected
    assert len(tries.received) == 1
