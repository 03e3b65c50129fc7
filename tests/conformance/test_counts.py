"""How many connections there may be, and how many requests wait for one."""

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
    Sees,
    SeesEnd,
    SeesHead,
    Sends,
    Shuts,
)
from tests.support.http import get
from tests.support.worker import Worker
from weldr.model.values import Limits, Service, Settings, Timeouts, UpstreamLimits

pytestmark = pytest.mark.asyncio(loop_scope="module")


BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
GET = get("/", "a")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
OK = response()
UPGRADE = get("/", "a", "Connection: Upgrade", "Upgrade: x")
SWITCH = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

PATIENT = Timeouts(connect_s=60)
"""Whoever waits for a connection gets it, however busy the machine is."""


def timeouts(**seconds: float) -> Settings:
    return Settings(timeouts=Timeouts(**seconds))


def limits(**most: int) -> Settings:
    return Settings(limits=Limits(**most), timeouts=PATIENT)


ONE = Service(limits=UpstreamLimits(backend_connections=1))
FULL = Sees(503, error="connection_limit_reached", by=2)
BUSY = (Asks(GET), Gets())
"""The backend has a request, and a client waits for its response."""

COUNTS: dict[str, Conversation] = {
    "a request waits for the only connection": Conversation(
        (
            *BUSY,
            Asks(get("/2", "a"), by=2),
            Nothing(by=2),
            Sends(OK),
            Sees(),
            Gets("GET /2 HTTP/1.1"),
            Sends(OK),
            Sees(by=2),
        ),
        Settings(timeouts=PATIENT),
        ONE,
    ),
    "requests wait in their order": Conversation(
        (
            *BUSY,
            *[Asks(get("/2", "a"), by=2), Nothing(by=2), Asks(get("/3", "a"), by=3), Nothing(by=3)],
            *[Sends(OK), Sees(), Gets("GET /2 HTTP/1.1"), Sends(OK), Sees(by=2)],
            *[Gets("GET /3 HTTP/1.1"), Sends(OK), Sees(by=3)],
        ),
        limits(backend_connections=1),
    ),
    "no more requests wait than may": Conversation(
        (*BUSY, Asks(GET, by=2), FULL, Sends(OK), Sees(), Asks(GET, by=2), Gets(), Sends(OK), Sees(by=2)),
        # Those that may wait would wait for longer than this test does.
        timeouts(connect_s=60),
        Service(limits=UpstreamLimits(backend_connections=1, pending_requests=0)),
    ),
    "no request waits for longer than a connection may take": Conversation(
        (*BUSY, Asks(GET, by=2), FULL, Sends(OK), Sees(), Asks(GET, by=2), Gets(), Sends(OK), Sees(by=2)),
        timeouts(connect_s=0.2),
        ONE,
    ),
    "a client that leaves gives up its place": Conversation(
        (*BUSY, Asks(GET, by=2), Nothing(by=2), Leaves(by=2), Nothing(), Sends(OK), Sees(), Nothing()),
        Settings(timeouts=PATIENT),
        ONE,
    ),
    "a client that leaves while its body waits is not waited for": Conversation(
        (
            *[*BUSY, Asks(POST[:-2], by=2), Nothing(by=2), Asks(POST[-2:-1], by=2), Nothing(by=2)],
            *[Leaves(by=2), Asks(GET, by=3), Nothing(by=3), Sends(OK), Sees(), Gets(), Sends(OK), Sees(by=3)],
        ),
        Settings(timeouts=PATIENT),
        ONE,
    ),
    "a client that ends its side while its body waits is told so": Conversation(
        (
            *[*BUSY, Asks(POST[:-2], by=2), Nothing(by=2), Asks(POST[-2:-1], by=2), Nothing(by=2)],
            *[Shuts(by=2), Nothing(by=2), Sends(OK), Sees()],
            *[Sees(503, error="connection_limit_reached", connection="close", by=2), SeesEnd(by=2), Nothing()],
        ),
        Settings(timeouts=PATIENT),
        ONE,
    ),
    "a body that waits comes on when there is room": Conversation(
        (
            *[*BUSY, Asks(POST[:-2], by=2), Nothing(by=2), Asks(POST[-2:-1], by=2), Nothing(by=2)],
            *[Sends(OK), Sees(), GetsHead(), GetsBytes(b"ab"), Asks(b"c", by=2), GetsBytes(b"c"), Sends(OK)],
            Sees(by=2),
        ),
        Settings(timeouts=PATIENT),
        ONE,
    ),
    "a client that leaves makes room": Conversation(
        (*BUSY, Asks(GET, by=2), Nothing(by=2), Leaves(), Loses(), Gets(on=2), Sends(OK, on=2), Sees(by=2)),
        Settings(timeouts=PATIENT),
        ONE,
    ),
    "a tunnel takes a connection": Conversation(
        (Asks(UPGRADE), Gets(), Sends(SWITCH), SeesHead(101), Asks(GET, by=2), FULL),
        timeouts(connect_s=0.2),
        ONE,
    ),
    "a tunnel gives its connection back": Conversation(
        (
            *[Asks(UPGRADE), Gets(), Sends(SWITCH), SeesHead(101), Ends(), SeesEnd(), Shuts(), Loses()],
            *[Asks(GET, by=2), Gets(on=2), Sends(OK, on=2), Sees(by=2)],
        ),
        timeouts(connect_s=60),
        ONE,
    ),
    "clients beyond the limit wait to be accepted": Conversation(
        (
            *[Asks(GET), Gets(), Asks(GET, by=2), Gets(on=2), Sends(OK), Sees(), Sends(OK, on=2), Sees(by=2)],
            *[Asks(GET, by=3), Nothing(by=3, on=2), Leaves(), Gets(on=2), Sends(OK, on=2), Sees(by=3)],
        ),
        limits(client_connections=2),
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", COUNTS)
async def test_the_number_of_connections_is_bounded(worker: Worker, case: str, bytewise: bool) -> None:
    await COUNTS[case].play(worker, bytewise=bytewise)
