"""Sizes at their very limits, times, numbers of connections and of requests that wait."""

from __future__ import annotations

import pytest

from tests.support.backends import ScriptedBackend, backend_sending, response
from tests.support.conversation import (
    Asks,
    Connects,
    Conversation,
    Gets,
    GetsBytes,
    GetsHead,
    Leaves,
    Loses,
    Nothing,
    Pauses,
    Sees,
    SeesBytes,
    SeesCut,
    SeesEnd,
    SeesHead,
    Sends,
)
from tests.support.http import get, request
from tests.support.worker import Worker, traffic
from weldr.model.values import Limits, Service, Settings, Timeouts, UpstreamLimits, UpstreamTimeouts

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
LINE_BYTES, HEAD_BYTES, FIELDS = 8192, 65536, 100


def line(size: int) -> bytes:
    """A request whose line has this size."""
    return b"GET /" + b"a" * (size - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def head(size: int) -> bytes:
    """A request whose head has this size, the empty line not counted."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"a" * (size - len(start)) + b"\r\n\r\n"


def fields(count: int) -> bytes:
    return get("/", "a", *(f"X{number}: 1" for number in range(1, count)))


def trailer(size: int) -> bytes:
    """A request whose trailer section has this size."""
    start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    return start + b"X: " + b"a" * (size - 3) + b"\r\n\r\n"


def extension(size: int) -> bytes:
    """A request with a chunk whose size has an extension, and with it this many bytes."""
    start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return start + b"1;" + b"a" * (size - 2) + b"\r\na\r\n0\r\n\r\n"


SIZES: dict[str, tuple[bytes, int]] = {
    "a request line at the limit": (line(LINE_BYTES), 200),
    "a request line one over": (line(LINE_BYTES + 1), 414),
    "a head at the limit": (head(HEAD_BYTES), 200),
    "a head one over": (head(HEAD_BYTES + 1), 431),
    "fields at the limit": (fields(FIELDS), 200),
    "fields one over": (fields(FIELDS + 1), 431),
    "many small fields": (fields(3000), 431),
    "a trailer section at the limit": (trailer(HEAD_BYTES), 200),
    "a trailer section one over": (trailer(HEAD_BYTES + 1), 400),
    "a chunk extension at the limit": (extension(4096), 200),
    "a chunk extension one over": (extension(4097), 400),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", SIZES)
async def test_the_size_of(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    data, status = SIZES[case]
    await worker.serve(traffic(recording_backend.port))
    recording_backend.received.clear()
    answer = await request(worker.port, data, bytewise=bytewise)
    assert answer.status == status
    assert len(recording_backend.received) == (status == 200)


RESPONSE_SIZES: dict[str, tuple[bytes, int]] = {
    "a head at the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"a" * 65497, 200),
    "a head one over": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"a" * 65498, 502),
    "fields at the limit": (response(b"", *["X: 1"] * 99).replace(b": 0", b": 2", 1)[:-4], 200),
    "fields one over": (response(b"", *["X: 1"] * 100).replace(b": 0", b": 2", 1)[:-4], 502),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", RESPONSE_SIZES)
async def test_the_size_of_a_responses(worker: Worker, case: str, bytewise: bool) -> None:
    data, status = RESPONSE_SIZES[case]
    assert len(data) in (65536, 65537) or len(data) < 10000
    async with backend_sending(data + b"\r\n\r\nok", bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, get())).status == status


@BOTH_WAYS
async def test_the_sizes_are_those_of_the_settings(
    worker: Worker, recording_backend: ScriptedBackend, bytewise: bool
) -> None:
    limits = Limits(request_line_bytes=100, head_bytes=1024, head_fields=3)
    await worker.serve(traffic(recording_backend.port, settings=Settings(limits=limits)))
    for data, status in (
        (line(100), 200),
        (line(101), 414),
        (head(1024), 200),
        (head(1025), 431),
        (fields(3), 200),
        (fields(4), 431),
        (trailer(1024), 200),
        (trailer(1025), 400),
    ):
        assert (await request(worker.port, data, bytewise=bytewise)).status == status


GET = get("/", "a")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
OK = response()
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
UPGRADE = get("/", "a", "Connection: Upgrade", "Upgrade: x")
SWITCH = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
AGAIN = (Asks(GET), Gets(), Sends(OK), Sees())
LATE = Sees(408, error="http_request_error", connection="close")


def timeouts(**seconds: float) -> Settings:
    return Settings(timeouts=Timeouts(**seconds))


def own_timeouts(**seconds: float) -> Service:
    return Service(timeouts=UpstreamTimeouts(**seconds))


TIMES: dict[str, Conversation] = {
    "a client that says nothing": Conversation((Connects(), SeesEnd()), timeouts(client_head_s=0.2)),
    "a head that does not end": Conversation((Asks(GET[:-2]), LATE, SeesEnd()), timeouts(client_head_s=0.2)),
    "a head that does not end, after another request": Conversation(
        (Asks(GET), Gets(), Sends(OK), Sees(), Asks(GET[:9]), LATE, SeesEnd()), timeouts(client_head_s=0.2)
    ),
    "a head whose lines come one by one": Conversation(
        (Asks(GET[:-2]), *[Asks(b"X: 1\r\n"), Pauses(0.15)] * 8, Asks(b"\r\n"), LATE),
        timeouts(client_head_s=0.4),
    ),
    "no head behind empty lines": Conversation(
        (Asks(GET), Gets(), Sends(OK), Sees(), Asks(b"\r\n"), SeesEnd()),
        timeouts(client_head_s=0.2, client_idle_s=0.4),
    ),
    "no head, and empty lines again and again": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(OK),
            Sees(),
            *[Asks(b"\r\n"), Pauses(0.15)] * 8,
            Asks(GET),
            SeesEnd(or_cut=True),
        ),
        timeouts(client_head_s=0.2, client_idle_s=0.4),
    ),
    "a head that comes long after empty lines": Conversation(
        (Asks(b"\r\n"), Asks(GET), Gets(), Sends(OK), Sees(), Asks(b"\r\n"), Pauses(0.8), *AGAIN),
        timeouts(client_head_s=0.2),
    ),
    "no further request": Conversation(
        (Asks(GET), Gets(), Sends(OK), Sees(), SeesEnd()), timeouts(client_idle_s=0.2)
    ),
    "a body that stops": Conversation(
        (Asks(POST + b"ab"), GetsHead(), GetsBytes(b"ab"), LATE, Loses(), SeesEnd()), timeouts(read_s=0.2)
    ),
    "a body that is slow, but goes on": Conversation(
        (
            Asks(POST),
            GetsHead(),
            *[Asks(b"a"), GetsBytes(b"a"), Pauses(0.3), Asks(b"b"), GetsBytes(b"b"), Pauses(0.3), Asks(b"c")],
            GetsBytes(b"c"),
            Sends(OK),
            Sees(),
        ),
        timeouts(read_s=0.5),
    ),
    "no response": Conversation(
        (Asks(GET), Gets(), Sees(504, error="http_response_timeout"), Loses()), timeouts(response_s=0.2)
    ),
    "no response, by the service's own time": Conversation(
        (Asks(GET), Gets(), Sees(504, error="http_response_timeout"), Loses()),
        policy=own_timeouts(response_s=0.2),
    ),
    "a response head that trickles in": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(b"HTTP/1.1 200 OK\r\n"),
            *[Sends(b"X: 1\r\n"), Pauses(0.15)] * 8,
            Sees(504, error="http_response_timeout"),
        ),
        timeouts(response_s=0.4),
    ),
    "interim responses put nothing off": Conversation(
        (
            Asks(GET),
            Gets(),
            *[Sends(b"HTTP/1.1 103 Hm\r\n\r\n"), Pauses(0.15)] * 8,
            Sees(504, error="http_response_timeout", interim=None),
        ),
        timeouts(response_s=0.4),
    ),
    "a response that stops": Conversation(
        (Asks(GET), Gets(), Sends(LONG + b"ok"), SeesHead(), SeesBytes(b"ok"), SeesCut(), Loses()),
        timeouts(read_s=0.2),
    ),
    "a response that is slow, but goes on": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
            *[Pauses(0.3), Sends(b"a")] * 3,
            Sees(body=b"aaa"),
        ),
        timeouts(read_s=0.5),
    ),
    "a tunnel in which nobody speaks": Conversation(
        (Asks(UPGRADE), Gets(), Sends(SWITCH), SeesHead(101), SeesCut(), Loses()), timeouts(tunnel_idle_s=0.2)
    ),
    "a tunnel in which one side speaks": Conversation(
        (
            Asks(UPGRADE),
            Gets(),
            Sends(SWITCH),
            SeesHead(101),
            *[Sends(b"a"), SeesBytes(b"a"), Pauses(0.3)] * 4,
            Asks(b"b"),
            GetsBytes(b"b"),
        ),
        timeouts(tunnel_idle_s=0.6),
    ),
    "a kept connection to the backend": Conversation(
        (Asks(GET), Gets(), Sends(OK), Sees(), Loses()), timeouts(upstream_idle_s=0.2)
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", TIMES)
async def test_the_time_for(worker: Worker, case: str, bytewise: bool) -> None:
    await TIMES[case].play(worker, bytewise=bytewise)


def limits(**most: int) -> Settings:
    return Settings(limits=Limits(**most))


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
        policy=ONE,
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
        policy=Service(limits=UpstreamLimits(backend_connections=1, pending_requests=0)),
    ),
    "no request waits for longer than a connection may take": Conversation(
        (*BUSY, Asks(GET, by=2), FULL, Sends(OK), Sees(), Asks(GET, by=2), Gets(), Sends(OK), Sees(by=2)),
        timeouts(connect_s=0.2),
        ONE,
    ),
    "a client that leaves gives up its place": Conversation(
        (*BUSY, Asks(GET, by=2), Nothing(by=2), Leaves(by=2), Nothing(), Sends(OK), Sees(), Nothing()),
        policy=ONE,
    ),
    "a client that leaves makes room": Conversation(
        (*BUSY, Asks(GET, by=2), Nothing(by=2), Leaves(), Loses(), Gets(on=2), Sends(OK, on=2), Sees(by=2)),
        policy=ONE,
    ),
    "a tunnel takes a connection": Conversation(
        (Asks(UPGRADE), Gets(), Sends(SWITCH), SeesHead(101), Asks(GET, by=2), FULL),
        timeouts(connect_s=0.2),
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
