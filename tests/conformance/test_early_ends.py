"""Either side ends in the middle: what the other one must see, and must not take for complete."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.backends import BackendConnection, response, scripted_backend
from tests.support.conversation import (
    Asks,
    Closes,
    Conversation,
    Ends,
    Gets,
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
    Step,
)
from tests.support.http import RawClient, get
from tests.support.worker import Worker, traffic

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = get("/", "a")
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = response()
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_END = b"HTTP/1.1 200 OK\r\n\r\n"


def cut(head: bytes, *after: Step, ask: bytes = GET) -> Conversation:
    """After the head has reached the client something goes wrong."""
    # The pipelined request shows that nothing can follow such a response.
    return Conversation((Asks(ask + ask), Gets(), Sends(head), SeesHead(), *after, SeesCut()))


EARLY_ENDS: dict[str, Conversation] = {
    # Of the backend.
    "Content-Length, closed before the body": cut(LONG, Closes()),
    "Content-Length, closed in the body": cut(LONG, Sends(b"ok"), SeesBytes(b"ok"), Closes()),
    "Content-Length, reset in the body": cut(LONG, Sends(b"ok"), SeesBytes(b"ok"), Resets()),
    "Content-Length, for HTTP/1.0": cut(LONG, Sends(b"ok"), SeesBytes(b"ok"), Closes(), ask=GET_1_0),
    "chunks, closed before the first": cut(CHUNKED, Closes()),
    "chunks, closed between two": cut(CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Closes()),
    "chunks, closed in a size": cut(CHUNKED, Sends(b"1\r\na\r\n1"), SeesBytes(b"1\r\na\r\n"), Closes()),
    "chunks, closed in one": cut(CHUNKED, Sends(b"9\r\na"), SeesBytes(b"1\r\na\r\n"), Closes()),
    "chunks, closed in the last one": cut(CHUNKED, Sends(b"1\r\na\r\n0"), SeesBytes(b"1\r\na\r\n"), Closes()),
    "chunks, closed before the empty line": cut(
        CHUNKED, Sends(b"1\r\na\r\n0\r\n"), SeesBytes(b"1\r\na\r\n"), Closes()
    ),
    "chunks, closed in the trailer section": cut(
        CHUNKED, Sends(b"1\r\na\r\n0\r\nX: 1\r\n"), SeesBytes(b"1\r\na\r\n"), Closes()
    ),
    "chunks, reset": cut(CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Resets()),
    "chunks, closed, for HTTP/1.0": cut(CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"a"), Closes(), ask=GET_1_0),
    "a malformed chunk size": cut(CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Sends(b"x\r\n")),
    "a chunk size with a sign": cut(CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Sends(b"+1\r\n")),
    "a chunk size that overflows": cut(
        CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Sends(b"10000000000000001\r\n")
    ),
    "a chunk that is too long": cut(CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Sends(b"1\r\nab")),
    "a malformed trailer section": cut(
        CHUNKED, Sends(b"1\r\na\r\n"), SeesBytes(b"1\r\na\r\n"), Sends(b"0\r\nX : 1\r\n\r\n")
    ),
    "a body to the end that is reset": cut(TO_END, Sends(b"a"), SeesBytes(b"1\r\na\r\n"), Resets()),
    "a body to the end that is reset, for HTTP/1.0": cut(
        TO_END, Sends(b"ok"), SeesBytes(b"ok"), Resets(), ask=GET_1_0
    ),
    "a body to the end that ends": Conversation(
        (
            Asks(GET),
            Gets(),
            Sends(TO_END),
            SeesHead(),
            Sends(b"a"),
            SeesBytes(b"1\r\na\r\n"),
            Ends(),
            SeesBytes(b"0\r\n\r\n"),
            Asks(GET),
            Gets(on=2),
            Sends(OK, on=2),
            Sees(),
        )
    ),
    "no response at all": Conversation(
        (Asks(GET), Gets(), Closes(), Sees(502, error="connection_terminated"), Asks(GET), Gets(on=2))
    ),
    "a reset in place of a response": Conversation(
        (Asks(GET), Gets(), Resets(), Sees(502, error="connection_terminated"))
    ),
    "half a response head": Conversation(
        (Asks(GET), Gets(), Sends(LONG[:-4]), Closes(), Sees(502, error="http_response_incomplete"))
    ),
    "half a response head, then a reset": Conversation(
        (Asks(GET), Gets(), Sends(LONG[:-4]), Nothing(), Resets(), Sees(502, error="http_response_incomplete"))
    ),
    "a response and the end of the backend before the request is complete": Conversation(
        (
            Asks(POST + b"ab"),
            GetsHead(),
            GetsBytes(b"ab"),
            Sends(response(status="413 Content Too Large")),
            Ends(),
            Sees(413, connection="close"),
            SeesEnd(),
        )
    ),
    # Of the client.
    "a client that shuts its side gets its answer": Conversation(
        (Asks(GET), Shuts(), Gets(), Sends(OK), Sees(connection="close"), SeesEnd())
    ),
    "a client that shuts its side at once": Conversation((Shuts(), SeesEnd())),
    "a client that shuts its side in a head": Conversation((Asks(GET[:-2]), Shuts(), SeesEnd())),
    "a client that shuts its side in a body": Conversation(
        (
            Asks(POST + b"ab"),
            GetsHead(),
            GetsBytes(b"ab"),
            Shuts(),
            Sees(400, error="http_request_error", connection="close"),
            Loses(),
            SeesEnd(),
        )
    ),
    "a client that shuts its side in a chunk": Conversation(
        (
            Asks(CHUNKED_POST + b"3\r\na"),
            GetsHead(),
            GetsBytes(b"1\r\na\r\n"),
            Shuts(),
            Sees(400, error="http_request_error", connection="close"),
            Loses(),
            SeesEnd(),
        )
    ),
    "a client that shuts its side before the last chunk": Conversation(
        (
            Asks(CHUNKED_POST + b"1\r\na\r\n"),
            GetsHead(),
            GetsBytes(b"1\r\na\r\n"),
            Shuts(),
            Sees(400, error="http_request_error", connection="close"),
            Loses(),
            SeesEnd(),
        )
    ),
    "a client that shuts its side in the head behind a request": Conversation(
        (Asks(GET + GET[:-2]), Shuts(), Gets(), Sends(OK), Sees(connection=None), SeesEnd())
    ),
    "a client that shuts its side in the body behind a request": Conversation(
        (
            *[Asks(GET + POST + b"ab"), Shuts(), Gets(), Sends(OK), Sees(), GetsHead(), GetsBytes(b"ab")],
            *[Sees(400, error="http_request_error", connection="close"), Loses(), SeesEnd()],
        )
    ),
    "a client that shuts its side in what is no request behind one": Conversation(
        (
            *[Asks(GET + b"GET / HTTP/9.9\r\n\r\n"), Shuts(), Gets(), Sends(OK), Sees()],
            *[Sees(505, None, connection="close"), SeesEnd()],
        )
    ),
    "a client that shuts its side in a body whose response has begun": Conversation(
        (
            *[
                Asks(POST + b"ab"),
                GetsHead(),
                GetsBytes(b"ab"),
                Sends(LONG + b"ok"),
                SeesHead(),
                SeesBytes(b"ok"),
            ],
            *[Shuts(), Loses(), SeesCut()],
        )
    ),
    "a client that shuts its side in place of the body that it was asked for": Conversation(
        (
            *[Asks(POST[:-2] + b"Expect: 100-continue\r\n\r\n"), GetsHead()],
            *[Sends(b"HTTP/1.1 100 Continue\r\n\r\n"), SeesHead(100), Shuts()],
            *[Sees(400, error="http_request_error", connection="close"), Loses(), SeesEnd()],
        )
    ),
    "a client that leaves in place of the body that it was asked for": Conversation(
        (
            *[Asks(POST[:-2] + b"Expect: 100-continue\r\n\r\n"), GetsHead()],
            *[Sends(b"HTTP/1.1 100 Continue\r\n\r\n"), SeesHead(100), Leaves(), Loses()],
        )
    ),
    "no response to HEAD, whose answer has no body": Conversation(
        (
            *[Asks(b"HEAD" + GET[3:]), Gets("HEAD / HTTP/1.1"), Closes(), Sees(502, b"", method="HEAD")],
            *[Asks(GET), Gets(on=2), Sends(OK, on=2), Sees()],
        )
    ),
    "a malformed chunk after good ones": Conversation(
        (
            Asks(CHUNKED_POST + b"1\r\na\r\n"),
            GetsHead(),
            GetsBytes(b"1\r\na\r\n"),
            Asks(b"x\r\n"),
            Sees(400, error="http_request_error", connection="close"),
            Loses(),
            SeesEnd(),
        )
    ),
    "a client that leaves while it waits": Conversation((Asks(GET), Gets(), Leaves(), Loses())),
    "a client that leaves in its body": Conversation(
        (Asks(POST + b"ab"), GetsHead(), GetsBytes(b"ab"), Leaves(), Loses())
    ),
    "a client that leaves in its response": Conversation(
        (Asks(GET), Gets(), Sends(LONG), SeesHead(), Leaves(), Loses())
    ),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", EARLY_ENDS)
async def test_an_early_end(worker: Worker, case: str, bytewise: bool) -> None:
    await EARLY_ENDS[case].play(worker, bytewise=bytewise)


async def test_an_answer_is_not_lost_where_the_backend_closes_without_reading_the_body(worker: Worker) -> None:
    async def refuse(connection: BackendConnection) -> None:
        await connection.head()
        await connection.send(response(b"too large", status="413 Content Too Large"))

    size = 4 << 20
    async with scripted_backend(refuse) as backend:
        await worker.serve(traffic(backend.port))
        for _ in range(20):
            async with await RawClient.connect(worker.port) as client:
                post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
                sending = asyncio.create_task(client.send(post + bytes(size)))
                answer = await client.receive()
                assert (answer.status, answer.body) == (413, b"too large")
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
