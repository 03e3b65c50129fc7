"""Interim responses, `Expect: 100-continue`, and what follows a 101."""

from __future__ import annotations

import pytest

from tests.support.backends import response
from tests.support.conversation import (
    Asks,
    Closes,
    Conversation,
    Ends,
    Gets,
    GetsBody,
    GetsBytes,
    GetsHead,
    Leaves,
    Loses,
    Nothing,
    Resets,
    Sees,
    SeesBytes,
    SeesCut,
    SeesEnd,
    SeesHead,
    Sends,
    Shuts,
)
from tests.support.http import get
from tests.support.worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = get("/", "a")
OK = response()
EXPECTS = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
EXPECTS_CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECTED = GetsHead(fields=("Expect: 100-continue",))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

OLD = (Asks(GET), Gets(), Sends(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), Sees(), Loses())

INTERIM: dict[str, Conversation] = {
    "100 is waited for": Conversation(
        (
            Asks(EXPECTS),
            EXPECTED,
            Sends(CONTINUE),
            SeesHead(100),
            Asks(b"abc"),
            GetsBytes(b"abc"),
            Sends(OK),
            Sees(),
            Asks(GET),
            Gets(),
            Sends(OK),
            Sees(),
        )
    ),
    "100 is waited for, with chunks": Conversation(
        (
            Asks(EXPECTS_CHUNKED),
            GetsHead(fields=("Expect: 100-Continue",)),
            Sends(CONTINUE),
            SeesHead(100),
            Asks(b"3\r\nabc\r\n0\r\n\r\n"),
            GetsBody(b"abc"),
            Sends(OK),
            Sees(),
        )
    ),
    "100 is not waited for": Conversation(
        (Asks(EXPECTS + b"abc"), EXPECTED, GetsBytes(b"abc"), Sends(CONTINUE + OK), Sees(interim=(100,)))
    ),
    "100 never comes, and the body goes all the same": Conversation(
        (Asks(EXPECTS), EXPECTED, Nothing(), Asks(b"abc"), GetsBytes(b"abc"), Sends(OK), Sees())
    ),
    "the final response comes in place of 100": Conversation(
        (
            Asks(EXPECTS),
            EXPECTED,
            Sends(response(status="417 Expectation Failed")),
            Sees(417, connection="close"),
            Loses(),
            SeesEnd(),
        )
    ),
    "a good final response comes in place of 100": Conversation(
        (Asks(EXPECTS), EXPECTED, Sends(OK), Sees(connection="close"), Loses(), SeesEnd())
    ),
    "the final response comes after 100 and before the body": Conversation(
        (
            Asks(EXPECTS),
            EXPECTED,
            Sends(CONTINUE),
            SeesHead(100),
            Sends(response(status="413 Content Too Large")),
            Sees(413, connection="close"),
            Loses(),
            SeesEnd(),
        )
    ),
    "a 100 that comes after the body": Conversation(
        (Asks(EXPECTS + b"abc"), EXPECTED, GetsBytes(b"abc"), Sends(CONTINUE), SeesHead(100), Sends(OK), Sees())
    ),
    "an expectation of HTTP/1.0 is nobody's": Conversation(
        (
            Asks(EXPECTS.replace(b"HTTP/1.1", b"HTTP/1.0") + b"abc"),
            Gets("POST / HTTP/1.1", b"abc"),
            Sends(CONTINUE + OK),
            Sees(connection="close"),
        )
    ),
    "another expectation is the backend's to judge": Conversation(
        (
            Asks(get("/", "a", "Expect: gold")),
            Gets(fields=("Expect: gold",)),
            Sends(response(status="417 Expectation Failed")),
            Sees(417),
        )
    ),
    "100 from weldr for a backend that answered by HTTP/1.0, which cannot send it": Conversation(
        (*OLD, Asks(EXPECTS), GetsHead(on=2), SeesHead(100), Asks(b"abc"), GetsBytes(b"abc", on=2))
    ),
    "100 from weldr for a backend of HTTP/1.0 that keeps its connections": Conversation(
        (
            *[Asks(GET), Gets()],
            Sends(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
            *[Sees(), Asks(EXPECTS_CHUNKED), GetsHead(), SeesHead(100)],
            *[Asks(b"3\r\nabc\r\n0\r\n\r\n"), GetsBody(b"abc"), Sends(OK), Sees()],
        )
    ),
    "no 100 from weldr that nobody expected": Conversation(
        (
            *[*OLD, Asks(EXPECTS.replace(b"100-continue", b"gold")), GetsHead(fields=("Expect: gold",), on=2)],
            *[Nothing(on=2), Sends(response(status="417 Expectation Failed"), on=2)],
            Sees(417, connection="close"),
        )
    ),
    "no 100 from weldr once the backend answers by HTTP/1.1": Conversation(
        (
            *[*OLD, Asks(GET), Gets(on=2), Sends(OK, on=2), Sees(), Asks(EXPECTS), GetsHead(on=2)],
            *[Nothing(on=2), Sends(CONTINUE, on=2), SeesHead(100), Asks(b"abc"), GetsBytes(b"abc", on=2)],
        )
    ),
    "100 that nobody expected": Conversation((Asks(GET), Gets(), Sends(CONTINUE + OK), Sees(interim=(100,)))),
    "hints come at once": Conversation(
        (Asks(GET), Gets(), Sends(HINTS), SeesHead(103), Sends(HINTS), SeesHead(103), Sends(OK), Sees())
    ),
    "a flood of hints": Conversation((Asks(GET), Gets(), Sends(HINTS * 300 + OK), Sees(interim=(103,) * 300))),
    "a flood of hints is not for HTTP/1.0": Conversation(
        (Asks(GET.replace(b"HTTP/1.1", b"HTTP/1.0")), Gets(), Sends(HINTS * 300 + OK), Sees(connection="close"))
    ),
    "100 and the end of the backend": Conversation(
        (
            *[Asks(EXPECTS), EXPECTED, Sends(CONTINUE), SeesHead(100), Closes()],
            Sees(502, None, connection="close"),
        )
    ),
    "the final response comes in place of 100, and the body goes on": Conversation(
        (
            *[Asks(EXPECTS), EXPECTED, Sends(OK), Sees(connection="close"), Loses()],
            *[Asks(b"abc" + GET), SeesEnd(or_cut=True)],
        )
    ),
    "1xx that are in no registry": Conversation(
        (Asks(GET), Gets(), Sends(b"HTTP/1.1 199 Odd\r\nX: 1\r\n\r\n" + OK), Sees(interim=(199,)))
    ),
    "a 1xx has no body, whatever it says": Conversation(
        (Asks(GET), Gets(), Sends(b"HTTP/1.1 103 Hm\r\nContent-Length: 2\r\n\r\n" + OK), Sees(interim=(103,)))
    ),
    "a 1xx has no body, even if as many bytes follow": Conversation(
        (
            *[Asks(GET), Gets(), Sends(b"HTTP/1.1 103 Hm\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK)],
            SeesHead(103),
            # And so it is a response, which has been understood and written anew.
            SeesHead(200, fields=("via: 1.1 weldr",)),
            SeesBytes(b"ok"),
        )
    ),
    "no response after hints": Conversation(
        (Asks(GET), Gets(), Sends(HINTS), SeesHead(103), Closes(), Sees(502, error="http_response_incomplete"))
    ),
    "hints that speak of an upgrade": Conversation(
        (
            *[Asks(GET), Gets(), Sends(HINTS[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")],
            *[SeesBytes(HINTS[:-2] + b"Via: 1.1 weldr\r\n\r\n"), Sends(OK), Sees()],
        )
    ),
    "a malformed response after hints": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(HINTS),
            SeesHead(103),
            Sends(b"HTTP/1.1 2x0\r\n\r\n"),
            Sees(502, error="http_protocol_error"),
        )
    ),
}

UPGRADE = get("/", "a", "Connection: Upgrade", "Upgrade: websocket")
ASKED = Gets(fields=("Connection: Upgrade", "Upgrade: websocket"))


def switching(protocol: str = "websocket", *, connection: str = "Upgrade") -> bytes:
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: {connection}\r\nUpgrade: {protocol}\r\n\r\n"
    ).encode("ascii")


SWITCHED = SeesHead(101, ("connection: Upgrade", "upgrade: websocket"))
OPENED = (Asks(UPGRADE), ASKED, Sends(switching()), SWITCHED)
TALK = (Asks(b"\x00ping"), GetsBytes(b"\x00ping"), Sends(b"\xffpong"), SeesBytes(b"\xffpong"))
OVER = (Ends(), SeesEnd(), Shuts(), Loses())
NOT_ASKED_FOR = (Sees(502, error="http_upgrade_failed"), Loses())

TUNNELS: dict[str, Conversation] = {
    "bytes both ways": Conversation((*OPENED, *TALK, *TALK, *OVER)),
    "what looks like HTTP is just bytes": Conversation(
        (*OPENED, Asks(GET), GetsBytes(GET), Sends(b"HTTP/1.1 x"), SeesBytes(b"HTTP/1.1 x"), *OVER)
    ),
    "and the connections are to be closed behind it": Conversation(
        (
            *[Asks(get("/", "a", "Connection: close, Upgrade", "Upgrade: websocket")), ASKED],
            *[Sends(switching(connection="close, Upgrade")), SWITCHED, *TALK, *OVER],
        )
    ),
    "any protocol": Conversation(
        (
            Asks(get("/", "a", "Connection: upgrade", "Upgrade: foo/2, bar")),
            Gets(fields=("Upgrade: foo/2, bar",)),
            Sends(switching("BAR", connection="upgrade")),
            SeesHead(101),
            *TALK,
            *OVER,
        )
    ),
    "bytes that come with the request": Conversation(
        (
            Asks(UPGRADE + b"early"),
            ASKED,
            Nothing(),
            Sends(switching()),
            SeesHead(101),
            GetsBytes(b"early"),
            *OVER,
        )
    ),
    "bytes that come with the 101": Conversation(
        (Asks(UPGRADE), ASKED, Sends(switching() + b"early"), SeesHead(101), SeesBytes(b"early"), *OVER)
    ),
    "bytes and the end of the client, before the 101": Conversation(
        (
            *[Asks(UPGRADE + b"early"), Shuts(), ASKED, Nothing(), Sends(switching()), SeesHead(101)],
            *[GetsBytes(b"early"), Loses(), Sends(b"more"), SeesBytes(b"more"), Ends(), SeesEnd()],
        )
    ),
    "bytes and the end of the backend, with the 101": Conversation(
        (
            *[Asks(UPGRADE), ASKED, Sends(switching() + b"bye"), Ends(), SeesHead(101), SeesBytes(b"bye")],
            *[SeesEnd(), Asks(b"more"), GetsBytes(b"more"), Shuts(), Loses()],
        )
    ),
    "behind a request with a body": Conversation(
        (
            Asks(
                UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n")
                + b"abcd"
            ),
            *[
                Gets("POST / HTTP/1.1", b"abc"),
                Sends(switching()),
                SeesHead(101),
                GetsBytes(b"d"),
                *TALK,
                *OVER,
            ],
        )
    ),
    "behind a pipelined request": Conversation(
        (
            Asks(GET + UPGRADE + b"x"),
            Gets(),
            Sends(OK),
            Sees(),
            ASKED,
            Sends(switching()),
            SeesHead(101),
            GetsBytes(b"x"),
        )
    ),
    "a client that leaves cuts the backend": Conversation((*OPENED, *TALK, Leaves(), Loses())),
    "101 with fields that frame a body has none": Conversation(
        (
            *[Asks(UPGRADE), ASKED, Sends(switching()[:-2] + b"Content-Length: 5\r\n\r\nhello!")],
            *[SWITCHED, SeesBytes(b"hello!"), *TALK, *OVER],
        )
    ),
    "declined with 426, which says what there is": Conversation(
        (
            *[Asks(GET), Gets()],
            Sends(
                response(b"ok", "Connection: close, Upgrade", "Upgrade: foo/2", status="426 Upgrade Required")
            ),
            *[SeesHead(426, ("connection: Upgrade", "upgrade: foo/2")), SeesBytes(b"ok")],
        )
    ),
    "after hints": Conversation(
        (Asks(UPGRADE), ASKED, Sends(HINTS + switching()), SeesHead(103), SeesHead(101), *TALK, *OVER)
    ),
    "a client that shuts its side still gets": Conversation(
        (*OPENED, Shuts(), Loses(), Sends(b"more"), SeesBytes(b"more"), Ends(), SeesEnd())
    ),
    "a backend that shuts its side still gets": Conversation(
        (*OPENED, Ends(), SeesEnd(), Asks(b"more"), GetsBytes(b"more"), Shuts(), Loses())
    ),
    "a reset of the backend cuts the client": Conversation((*OPENED, Resets(), SeesCut())),
    "declined": Conversation((Asks(UPGRADE), ASKED, Sends(OK), Sees(), Asks(GET), Gets(), Sends(OK), Sees())),
    "declined, with bytes behind the request": Conversation(
        (Asks(UPGRADE + GET), ASKED, Sends(OK), Sees(), Gets(), Sends(OK), Sees())
    ),
    "declined with 426": Conversation(
        (Asks(UPGRADE), ASKED, Sends(response(status="426 Upgrade Required")), Sees(426))
    ),
    "101 to a request without Upgrade": Conversation((Asks(GET), Gets(), Sends(switching()), *NOT_ASKED_FOR)),
    "101 to an Upgrade that Connection does not name": Conversation(
        (Asks(get("/", "a", "Upgrade: websocket")), Gets(), Sends(switching()), *NOT_ASKED_FOR)
    ),
    "101 to HTTP/1.0": Conversation(
        (
            Asks(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0")),
            Gets(),
            Sends(switching()),
            Sees(502, error="http_upgrade_failed", connection="close"),
            Loses(),
        )
    ),
    "101 to another protocol than was offered": Conversation(
        (Asks(UPGRADE), ASKED, Sends(switching("other")), *NOT_ASKED_FOR)
    ),
    "101 to h2c, which was offered and not passed on": Conversation(
        (
            Asks(get("/", "a", "Connection: Upgrade", "Upgrade: h2c, websocket")),
            ASKED,
            Sends(switching("h2c")),
            *NOT_ASKED_FOR,
        )
    ),
    "101 without an Upgrade field": Conversation(
        (Asks(UPGRADE), ASKED, Sends(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\n"), *NOT_ASKED_FOR)
    ),
    "101 with an empty Upgrade field": Conversation(
        (Asks(UPGRADE), ASKED, Sends(switching("")), *NOT_ASKED_FOR)
    ),
    "101 whose Connection does not name Upgrade": Conversation(
        (Asks(UPGRADE), ASKED, Sends(switching(connection="keep-alive")), *NOT_ASKED_FOR)
    ),
    "101 before the request is complete": Conversation(
        (
            Asks(
                UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + b"ab"
            ),
            GetsHead(),
            GetsBytes(b"ab"),
            Sends(switching()),
            Sees(502, error="http_upgrade_failed", connection="close"),
            Loses(),
        )
    ),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", INTERIM)
async def test_interim_responses(worker: Worker, case: str, bytewise: bool) -> None:
    await INTERIM[case].play(worker, bytewise=bytewise)


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", TUNNELS)
async def test_a_tunnel(worker: Worker, case: str, bytewise: bool) -> None:
    await TUNNELS[case].play(worker, bytewise=bytewise)
