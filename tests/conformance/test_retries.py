"""Which request is sent again when its connection to a backend is lost, and which may not be."""

from __future__ import annotations

import pytest

from tests.support.backends import response
from tests.support.conversation import (
    Asks,
    AtOnce,
    Closes,
    Conversation,
    Ends,
    Gets,
    GetsBody,
    GetsBytes,
    GetsHead,
    Loses,
    Nothing,
    Resets,
    Sees,
    SeesEnd,
    SeesHead,
    Sends,
)
from tests.support.http import get
from tests.support.worker import Worker
from weldr.model.values import Service, UpstreamTimeouts

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = get("/", "a")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
OK = response()
MUCH = b"much" * 12_000
FIRST = (Asks(GET), Gets(), Sends(OK), Sees())
"""An exchange after which the connection is kept."""


def head(method: str, *fields: str) -> bytes:
    return "\r\n".join((f"{method} / HTTP/1.1", "Host: a", *fields, "", "")).encode("ascii")


def repeated(method: str, *, lost: Closes | Resets = Closes()) -> Conversation:  # noqa: B008
    got = f"{method} / HTTP/1.1"
    sends = Sends(b"HTTP/1.1 204 No Content\r\n\r\n", on=2)
    return Conversation(
        (*FIRST, Asks(head(method)), Gets(got), lost, Gets(got, on=2), sends, Sees(204, b"", method=method))
    )


def sent_elsewhere(ask: bytes, *last: Closes | Resets | Ends | Sends, got: Gets) -> Conversation:
    """What comes last on the kept connection is read in the same turn as the request, which is not sent yet."""
    sees = Sees(method=ask.partition(b" ")[0].decode())
    return Conversation((*FIRST, AtOnce((Asks(ask), *last)), got, Sends(OK, on=2), sees))


def not_repeated(
    ask: bytes, *after: Sends, got: Gets | GetsHead, error: str = "connection_terminated"
) -> Conversation:
    """Lost on a kept connection, and not sent again."""
    return Conversation((*FIRST, Asks(ask), got, *after, Closes(), Sees(502, error=error)))


RETRIES: dict[str, Conversation] = {
    "GET": repeated("GET"),
    "HEAD": repeated("HEAD"),
    "OPTIONS": repeated("OPTIONS"),
    "DELETE": repeated("DELETE"),
    "PUT without a body": repeated("PUT"),
    "GET after a reset": repeated("GET", lost=Resets()),
    "POST, if the connection was closed before": sent_elsewhere(
        POST, Closes(), got=Gets("POST / HTTP/1.1", b"abc", on=2)
    ),
    "POST, if the connection was reset before": sent_elsewhere(
        POST, Resets(), got=Gets("POST / HTTP/1.1", b"abc", on=2)
    ),
    "POST, if the connection was reset before that": Conversation(
        (
            *[*FIRST, AtOnce((Resets(), Asks(POST)))],
            *[Gets("POST / HTTP/1.1", b"abc", on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "POST without a body, if the connection was shut before": sent_elsewhere(
        head("POST"), Ends(), got=Gets("POST / HTTP/1.1", on=2)
    ),
    "POST with much of a body, if the connection was shut before": sent_elsewhere(
        head("POST", f"Content-Length: {len(MUCH)}") + MUCH, Ends(), got=Gets("POST / HTTP/1.1", MUCH, on=2)
    ),
    "POST with chunks, if the connection was shut before": sent_elsewhere(
        head("POST", "Transfer-Encoding: chunked") + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        Ends(),
        got=Gets("POST / HTTP/1.1", b"abc", on=2),
    ),
    "POST with half of its chunks, if the connection was shut before": Conversation(
        (
            *FIRST,
            AtOnce((Asks(head("POST", "Transfer-Encoding: chunked") + b"2\r\nab\r\n"), Ends())),
            *[GetsHead(on=2), GetsBytes(b"2\r\nab\r\n", on=2), Asks(b"1\r\nc\r\n0\r\n\r\n")],
            *[GetsBody(b"c", on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "POST, if something unasked came before": sent_elsewhere(
        POST, Sends(response(b"evil")), got=Gets("POST / HTTP/1.1", b"abc", on=2)
    ),
    "GET, if something unasked came before": sent_elsewhere(GET, Sends(response(b"evil")), got=Gets(on=2)),
    "not POST": not_repeated(POST, got=Gets("POST / HTTP/1.1", b"abc")),
    "not POST without a body": not_repeated(head("POST"), got=Gets("POST / HTTP/1.1")),
    "not PATCH": not_repeated(head("PATCH"), got=Gets("PATCH / HTTP/1.1")),
    "no unknown method": not_repeated(head("FOO"), got=Gets("FOO / HTTP/1.1")),
    "no method in lower case": not_repeated(head("get"), got=Gets("get / HTTP/1.1")),
    "not POST that was lost in its body": Conversation(
        (
            *FIRST,
            *[Asks(POST[:-1]), GetsHead(), GetsBytes(b"ab"), Closes()],
            *[Sees(502, error="connection_terminated", connection="close"), Asks(b"c"), SeesEnd(or_cut=True)],
        )
    ),
    "not PUT with a body": not_repeated(
        head("PUT", "Content-Length: 3") + b"abc", got=Gets("PUT / HTTP/1.1", b"abc")
    ),
    "not GET with chunks": not_repeated(
        head("GET", "Transfer-Encoding: chunked") + b"0\r\n\r\n", got=Gets("GET / HTTP/1.1")
    ),
    "not after a byte of the response": not_repeated(
        GET, Sends(b"H"), got=Gets(), error="http_response_incomplete"
    ),
    "not after a byte of the response and a reset": Conversation(
        (
            *FIRST,
            *[Asks(GET), Gets(), Sends(b"H"), Nothing(), Resets()],
            Sees(502, error="http_response_incomplete"),
        )
    ),
    "not after an interim response": Conversation(
        (
            *FIRST,
            Asks(GET),
            Gets(),
            Sends(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
            SeesHead(103),
            Closes(),
            Sees(502, error="http_response_incomplete"),
        )
    ),
    "not on a new connection": Conversation(
        (Asks(GET), Gets(), Closes(), Sees(502, error="connection_terminated"))
    ),
    "once": Conversation(
        (
            *FIRST,
            Asks(GET),
            Gets(),
            Closes(),
            Gets(on=2),
            Closes(on=2),
            Sees(502, error="connection_terminated"),
        )
    ),
    "on a new connection, whatever is kept": Conversation(
        (
            Asks(GET, by=1),
            Gets(on=1),
            Asks(GET, by=2),
            Gets(on=2),
            Sends(OK, on=1),
            Sees(by=1),
            Sends(OK, on=2),
            Sees(by=2),
            Asks(GET, by=1),
            Gets(on=2),
            Closes(on=2),
            Gets(on=3),
            Sends(OK, on=3),
            Sees(by=1),
        )
    ),
    "not after the time for the response": Conversation(
        (*FIRST, Asks(GET), Gets(), Sees(504, error="http_response_timeout"), Loses()),
        policy=Service(timeouts=UpstreamTimeouts(response_s=0.2)),
    ),
    "on the next backend where no connection was made, even with a body": Conversation(
        (
            *(
                step
                for _ in range(3)
                for step in (Asks(POST), Gets("POST / HTTP/1.1", b"abc"), Sends(OK), Sees())
            ),
        ),
        refusing=2,
    ),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.real_time) if "the time" in case else case for case in RETRIES],
)
async def test_a_lost_request_is_sent_again(worker: Worker, case: str, bytewise: bool) -> None:
    await RETRIES[case].play(worker, bytewise=bytewise)
