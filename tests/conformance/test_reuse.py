"""After which exchanges a connection to a backend is used again, and for what."""

from __future__ import annotations

import pytest

from tests.support.backends import response
from tests.support.conversation import (
    Asks,
    Conversation,
    Ends,
    Gets,
    GetsBytes,
    GetsHead,
    Leaves,
    Loses,
    Nothing,
    Pauses,
    Resets,
    Sees,
    SeesBytes,
    SeesEnd,
    SeesHead,
    Sends,
    Shuts,
)
from tests.support.http import get
from tests.support.worker import Worker
from weldr.model.values import Limits, Service, Settings, Timeouts, UpstreamLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = get("/", "a")
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
OK = response()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
FIRST = (Asks(GET), Gets(), Sends(OK), Sees())
"""An exchange after which the connection is kept."""


def kept(answer: bytes, *, ask: bytes = GET, body: bytes = b"ok", status: int = 200) -> Conversation:
    """After this answer the next request comes on the same connection."""
    method = ask.partition(b" ")[0].decode()
    got = Gets(f"{method} / HTTP/1.1")
    sees = Sees(status, body, method=method)
    return Conversation((Asks(ask), got, Sends(answer), sees, Asks(ask), got, Sends(answer), sees))


def not_kept(answer: bytes, *, status: int = 200, body: bytes = b"ok") -> Conversation:
    """After this answer weldr closes the connection by itself, and the next request comes on another."""
    again = (Asks(GET), Gets(on=2), Sends(OK, on=2), Sees())
    return Conversation((Asks(GET), Gets(), Sends(answer), Sees(status, body), Loses(), *again))


REUSE: dict[str, Conversation] = {
    "after Content-Length": kept(OK),
    "after an empty body": kept(response(b""), body=b""),
    "after chunks": kept(CHUNKED),
    "after chunks and a trailer section": kept(CHUNKED[:-2] + b"X: 1\r\n\r\n"),
    "after HEAD": kept(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", ask=HEAD, body=b""),
    "after HEAD with chunked": kept(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ask=HEAD, body=b""
    ),
    "after 204": kept(b"HTTP/1.1 204 No Content\r\n\r\n", body=b"", status=204),
    "after 304 with Content-Length": kept(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", body=b"", status=304
    ),
    "after an error of the backend": kept(response(status="500 Oh"), status=500),
    "after HTTP/1.0 with keep-alive": kept(
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok"
    ),
    "by another client": Conversation((*FIRST, Asks(GET, by=2), Gets(), Sends(OK), Sees(by=2))),
    "after a request with a body": Conversation(
        (Asks(POST), Gets("POST / HTTP/1.1", b"abc"), Sends(OK), Sees(), Asks(GET), Gets(), Sends(OK), Sees())
    ),
    "not after HTTP/1.0 without keep-alive": not_kept(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "not after Connection: close": not_kept(response(b"ok", "Connection: close")),
    "not after Connection: CLOSE among others": not_kept(response(b"ok", "Connection: x, CLOSE")),
    "not after Keep-Alive: timeout=0": not_kept(response(b"ok", "Keep-Alive: timeout=0")),
    "not after a byte too much": not_kept(OK + b"\n"),
    "not after a response too much": not_kept(OK + response(b"evil")),
    "not after a byte behind the last chunk": not_kept(CHUNKED + b"x"),
    "not after a 204 with a body": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(b"HTTP/1.1 204 No Content\r\n\r\nok"),
            Sees(204, b""),
            Loses(),
            Asks(GET),
            Gets(on=2),
            Sends(OK, on=2),
            Sees(),
        )
    ),
    "after a 204 with Content-Length 0": kept(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", body=b"", status=204
    ),
    "not after a 204 that promises a body": not_kept(
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", status=204, body=b""
    ),
    "not after a 204 that promises chunks": not_kept(
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", status=204, body=b""
    ),
    "not after the body of a HEAD, which comes late": Conversation(
        (
            *[Asks(HEAD), Gets("HEAD / HTTP/1.1"), Sends(OK[:-2]), Sees(method="HEAD", body=b"")],
            *[Sends(b"ok"), Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "not after the body of a 304, which comes late": Conversation(
        (
            *[Asks(GET), Gets(), Sends(OK[:-2].replace(b"200 OK", b"304 No")), Sees(304, b"")],
            *[Sends(b"ok"), Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "of a GET for a HEAD, and of that for a GET, with the same head of the response each time": Conversation(
        (
            *FIRST,
            *[Asks(HEAD), Gets("HEAD / HTTP/1.1"), Sends(OK[:-2]), Sees(method="HEAD", body=b"")],
            *FIRST,
            *[Asks(HEAD), Gets("HEAD / HTTP/1.1"), Sends(OK[:-2]), Sees(method="HEAD", body=b"")],
            *FIRST,
        )
    ),
    "of a 304 for a 200, with the same fields each time": Conversation(
        (
            *FIRST,
            *[Asks(GET), Gets(), Sends(OK[:-2].replace(b"200 OK", b"304 No")), Sees(304, b"")],
            *FIRST,
        )
    ),
    "not after the backend has reset it": Conversation(
        (
            *[*FIRST, Resets(), Pauses(0.1)],
            *[Asks(POST), Gets("POST / HTTP/1.1", b"abc", on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "not after a 100 that comes later and unasked": Conversation(
        (
            *FIRST,
            *[Sends(b"HTTP/1.1 100 Continue\r\n\r\n"), Loses()],
            *[Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "not after a complete response and a reset": Conversation(
        (
            *[Asks(GET), Gets(), Sends(CHUNKED), Sees(), Resets(), Pauses(0.1)],
            *[Asks(POST), Gets("POST / HTTP/1.1", b"abc", on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "not after close in the second of two Connection fields": not_kept(
        response(b"ok", "Connection: keep-alive", "Connection: close")
    ),
    "not after HTTP/1.0 with keep-alive and no length": Conversation(
        (
            *[Asks(GET), Gets(), Sends(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok"), Ends(), Sees()],
            *[Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "after a response that began before the request was complete": Conversation(
        (
            *[Asks(POST[:-1]), GetsHead(), GetsBytes(b"ab"), Sends(response(b"okay")[:-2]), SeesHead()],
            *[SeesBytes(b"ok"), Asks(b"c"), GetsBytes(b"c"), Sends(b"ay"), SeesBytes(b"ay"), SeesEnd()],
            *[Asks(GET, by=2), Gets(), Sends(OK), Sees(by=2)],
        )
    ),
    "not after bytes that come later and unasked": Conversation(
        (*FIRST, Sends(response(b"evil")), Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees())
    ),
    "not after the backend has shut its side": Conversation(
        (*FIRST, Ends(), Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees())
    ),
    "not after a response that came before its request was complete": Conversation(
        (
            Asks(POST[:-1]),
            GetsHead(),
            GetsBytes(b"ab"),
            Sends(OK),
            Sees(connection="close"),
            Loses(),
            SeesEnd(),
            Asks(GET, by=2),
            Gets(on=2),
            Sends(OK, on=2),
            Sees(by=2),
        )
    ),
    "not after a client that left": Conversation(
        (Asks(GET), Gets(), Leaves(), Loses(), Asks(GET, by=2), Gets(on=2), Sends(OK, on=2), Sees(by=2))
    ),
    "not after a client that left in the middle of the response": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
            SeesHead(),
            SeesBytes(b"ok"),
            Leaves(),
            Loses(),
        )
    ),
    "not if none may be kept": Conversation(
        (*FIRST, Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()),
        policy=Service(limits=UpstreamLimits(backend_idle_connections=0)),
    ),
    "no more than may be kept": Conversation(
        (
            Asks(GET, by=1),
            Gets(on=1),
            Asks(GET, by=2),
            Gets(on=2),
            Sends(OK, on=1),
            Sees(by=1),
            Sends(OK, on=2),
            Sees(by=2),
            Loses(on=2),
            Asks(GET, by=2),
            Gets(on=1),
            Sends(OK, on=1),
            Sees(by=2),
        ),
        settings=Settings(limits=Limits(backend_idle_connections=1)),
    ),
    "not when it was unused for too long": Conversation(
        (*FIRST, Loses(), Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()),
        settings=Settings(timeouts=Timeouts(upstream_idle_s=0.1)),
    ),
    "not when the backend is about to close it": Conversation(
        (Asks(GET), Gets(), Sends(response(b"ok", "Keep-Alive: timeout=2")), Sees(), Loses()),
    ),
    "one request at a time": Conversation(
        (
            Asks(GET),
            Gets(),
            Asks(GET, by=2),
            Gets(on=2),
            Sends(response(b"two"), on=2),
            Sees(body=b"two", by=2),
            Sends(response(b"one")),
            Sees(body=b"one"),
        )
    ),
    "a pipelined request waits for its turn": Conversation(
        (
            Asks(get("/1", "a") + get("/2", "a")),
            Gets("GET /1 HTTP/1.1"),
            Nothing(),
            Sends(OK),
            Sees(),
            Gets("GET /2 HTTP/1.1"),
            Sends(response(b"2nd")),
            Sees(body=b"2nd"),
        )
    ),
    "a pipelined request is not sent on a connection that ended": Conversation(
        (
            *[Asks(GET + POST), Gets(), Sends(b"HTTP/1.1 200 OK\r\n\r\nok"), Ends(), Sees()],
            *[Gets("POST / HTTP/1.1", b"abc", on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "a pipelined request after one with a body": Conversation(
        (
            Asks(POST + get("/2", "a")),
            Gets("POST / HTTP/1.1", b"abc"),
            Nothing(),
            Sends(OK),
            Sees(),
            Gets("GET /2 HTTP/1.1"),
            Sends(OK),
            Sees(),
        )
    ),
    "a body behind its head, after a request with the same head": Conversation(
        (
            *[Asks(POST), Gets("POST / HTTP/1.1", b"abc"), Sends(OK), Sees()],
            *[Asks(POST[:-3]), GetsHead(), Nothing(), Asks(b"def"), GetsBytes(b"def"), Sends(OK), Sees()],
        )
    ),
    "a request of HTTP/1.1 after one of HTTP/1.0 with the same fields": Conversation(
        (
            *[Asks(GET_1_0), Gets(fields=("Via: 1.0 weldr",)), Sends(OK), Sees(connection="keep-alive")],
            *[Asks(GET_1_0.replace(b"HTTP/1.0", b"HTTP/1.1")), Gets(fields=("Via: 1.1 weldr",))],
            *[Sends(OK), Sees()],
        )
    ),
    "a request for another host after one with the same fields": Conversation(
        (
            *[Asks(GET), Gets(fields=("Host: a", "X-Forwarded-Host: a")), Sends(OK), Sees()],
            *[Asks(GET.replace(b"/ ", b"http://b/ ")), Gets(fields=("Host: b", "X-Forwarded-Host: b"))],
            *[Sends(OK), Sees(), Asks(GET), Gets(fields=("Host: a", "X-Forwarded-Host: a")), Sends(OK), Sees()],
        )
    ),
    "pipelined requests of a client that has shut its side": Conversation(
        (
            Asks(get("/1", "a") + get("/2", "a")),
            Shuts(),
            Gets("GET /1 HTTP/1.1"),
            Sends(OK),
            Sees(),
            Gets("GET /2 HTTP/1.1"),
            Sends(OK),
            # It may be that its end was not read yet, since it was not its turn.
            Sees(connection="*"),
            SeesEnd(),
        )
    ),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", REUSE)
async def test_a_connection_is_used_again(worker: Worker, case: str, bytewise: bool) -> None:
    await REUSE[case].play(worker, bytewise=bytewise)
