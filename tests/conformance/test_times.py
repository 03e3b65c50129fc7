"""How long weldr waits, and what puts a wait off."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.backends import BackendConnection, ScriptedBackend, response, scripted_backend
from tests.support.conversation import (
    Asks,
    Connects,
    Conversation,
    Gets,
    GetsBytes,
    GetsHead,
    Loses,
    Pauses,
    Sees,
    SeesBytes,
    SeesCut,
    SeesEnd,
    SeesHead,
    Sends,
)
from tests.support.http import LIMIT_S, RawClient, get
from tests.support.worker import Worker, traffic
from weldr.model.values import Service, Settings, Timeouts, UpstreamTimeouts

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real_time]

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
GET = get("/", "a")
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
EXPECTING = POST[:-2] + b"Expect: 100-continue\r\n\r\n"
OK = response()
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
TCP_CLOSE = b"\x07"
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
            Asks(POST.replace(b": 3", b": 5")),
            GetsHead(),
            *[Asks(b"a"), GetsBytes(b"a"), Pauses(0.3)] * 5,
            Sends(OK),
            Sees(),
        ),
        timeouts(read_s=0.5),
    ),
    "no request, which does not run while a response is awaited": Conversation(
        (*[Asks(GET), Gets(), Pauses(1.2), Sends(OK), Sees()] * 2, SeesEnd()),
        timeouts(client_head_s=0.2, client_idle_s=0.2, read_s=0.2),
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
            Sends(b"Content-Length: 2\r\n\r\nok"),
            Sees(504, error="http_response_timeout"),
        ),
        timeouts(response_s=0.4),
    ),
    "interim responses put nothing off": Conversation(
        (
            Asks(GET),
            Gets(),
            *[Sends(b"HTTP/1.1 103 Hm\r\n\r\n"), Pauses(0.15)] * 8,
            Sends(OK),
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
            Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            *[Pauses(0.3), Sends(b"a")] * 5,
            Sees(body=b"aaaaa"),
        ),
        timeouts(read_s=0.5),
    ),
    "a response that has begun, while the request goes on": Conversation(
        (
            *[Asks(POST.replace(b": 3", b": 5")), GetsHead(), Sends(LONG.replace(b": 9", b": 2")), SeesHead()],
            *[Asks(b"a"), GetsBytes(b"a"), Pauses(0.3)] * 5,
            *[Sends(b"ok"), SeesBytes(b"ok"), SeesEnd()],
        ),
        timeouts(read_s=0.5),
    ),
    "a response that has begun, while the request stops": Conversation(
        (
            *[Asks(POST + b"a"), GetsHead(), GetsBytes(b"a"), Sends(LONG + b"o"), SeesHead(), SeesBytes(b"o")],
            *[SeesCut(), Loses()],
        ),
        timeouts(read_s=0.2),
    ),
    "a response that has begun and lasts, while its client keeps the body": Conversation(
        (
            *[Asks(EXPECTING), GetsHead(), Sends(LONG), SeesHead(fields=("connection: close",))],
            *[Pauses(0.2), Sends(b"a"), SeesBytes(b"a")] * 9,
            *[SeesEnd(), Loses()],
        ),
        timeouts(read_s=0.8),
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
    "a tunnel, longer than requests may last": Conversation(
        (
            *[Asks(UPGRADE), Gets(), Sends(SWITCH), SeesHead(101), Pauses(1.2)],
            *[Sends(b"a"), SeesBytes(b"a"), Asks(b"b"), GetsBytes(b"b")],
        ),
        timeouts(client_head_s=0.2, client_idle_s=0.2, response_s=0.2, read_s=0.2, upstream_idle_s=0.2),
    ),
    "a kept connection to the backend": Conversation(
        (Asks(GET), Gets(), Sends(OK), Sees(), Loses()), timeouts(upstream_idle_s=0.2)
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", TIMES)
async def test_the_time_for(worker: Worker, case: str, bytewise: bool) -> None:
    await TIMES[case].play(worker, bytewise=bytewise)


async def test_a_backend_that_has_begun_to_answer_need_not_read_the_rest(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.head()
        # Else the stream would read on for itself.
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(LONG)
        for _ in range(3):
            await asyncio.sleep(0.7)
            await connection.send(b"abc")

    async with scripted_backend(script) as backend, await RawClient.connect(worker.port) as client:
        await worker.serve(traffic(backend.port, settings=timeouts(read_s=0.5)))
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        sending = asyncio.create_task(client.send(b"x" * (64 << 20)))
        answer = await client.receive()
        sending.cancel()
    assert (answer.status, answer.body) == (200, b"abcabcabc")


async def test_interim_responses_without_end_put_nothing_off_where_the_client_is_slower(worker: Worker) -> None:
    given_up = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        try:
            while True:
                await connection.send(b"HTTP/1.1 103 Hm\r\n\r\n" * 1000)
        except ConnectionError:
            given_up.set()

    async with scripted_backend(script) as backend, await RawClient.connect(worker.port) as client:
        await worker.serve(traffic(backend.port, settings=timeouts(response_s=0.2)))
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET)
        async with asyncio.timeout(LIMIT_S):
            await given_up.wait()
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = await client.receive()
    assert answer.status == 504


async def test_who_goes_on_to_send_what_was_refused_is_not_cut_off_while_it_does(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    async with await RawClient.connect(worker.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert (await client.receive()).status == 400
        for _ in range(8):
            await client.send(b"more of what nobody reads")
            await asyncio.sleep(0.4)
            # What comes to a connection that is gone is answered by a reset. The kernel knows of it first.
            tcp = client.writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
            assert tcp != TCP_CLOSE
    async with await RawClient.connect(worker.port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert await client.receive_rest()
