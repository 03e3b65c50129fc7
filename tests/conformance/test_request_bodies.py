"""Bodies that a backend gets, and where the next request on a connection begins."""

from __future__ import annotations

import pytest

from tests.support.backends import ScriptedBackend
from tests.support.forwarded import POST, Forwarded, head
from tests.support.http import RawClient, get
from tests.support.worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
CHUNKED = head("Transfer-Encoding: chunked", line=POST)

FORWARDED: dict[str, Forwarded] = {
    "Content-Length": Forwarded(
        head("Content-Length: 5", line=POST) + b"\r\n\r\nx",
        POST,
        ("Host: a", "Content-Length: 5"),
        b"\r\n\r\nx",
    ),
    "Content-Length 0": Forwarded(head("Content-Length: 0", line=POST), POST, ("Host: a", "Content-Length: 0")),
    "the same Content-Length twice is one": Forwarded(
        head("Content-Length: 3", "content-length: 3", line=POST) + b"abc",
        POST,
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "Content-Length with leading zeros": Forwarded(
        head("Content-Length: 003", line=POST) + b"abc", POST, ("Host: a", "Content-Length: 3"), b"abc"
    ),
    "Content-Length with spaces around": Forwarded(
        head("Content-Length: \t3 ", line=POST) + b"abc", POST, ("Host: a", "Content-Length: 3"), b"abc"
    ),
    "Content-Length three times": Forwarded(
        head("Content-Length: 3", "Content-Length: 03", "CONTENT-LENGTH: 3", line=POST) + b"abc",
        POST,
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "Content-Length from HTTP/1.0": Forwarded(
        head("Content-Length: 3", line="POST / HTTP/1.0") + b"abc",
        POST,
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "a body of all bytes": Forwarded(
        head("Content-Length: 256", line=POST) + bytes(range(256)),
        POST,
        ("Host: a", "Content-Length: 256"),
        bytes(range(256)),
    ),
    "a body with DELETE": Forwarded(
        head("Content-Length: 3", line="DELETE / HTTP/1.1") + b"abc",
        "DELETE / HTTP/1.1",
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "chunks with GET": Forwarded(
        head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
        "GET / HTTP/1.1",
        ("Host: a", "Transfer-Encoding: chunked"),
        b"abc",
    ),
    "a line break behind the body": Forwarded(
        head("Content-Length: 3", line=POST) + b"abc\r\n", POST, ("Host: a", "Content-Length: 3"), b"abc"
    ),
    "a body that looks like a request": Forwarded(
        head("Content-Length: 31", line=POST) + b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
        POST,
        ("Host: a", "Content-Length: 31"),
        b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    "a POST without a body": Forwarded(head(line=POST), POST),
    "a GET with a body": Forwarded(
        head("Content-Length: 3") + b"abc", "GET / HTTP/1.1", ("Host: a", "Content-Length: 3"), b"abc"
    ),
    "chunks": Forwarded(
        CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", POST, ("Host: a", "Transfer-Encoding: chunked"), b"abcde"
    ),
    "chunked with tabs around": Forwarded(
        head("Transfer-Encoding:\tchunked\t", line=POST) + b"1\r\na\r\n0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"a",
    ),
    "a chunk of all bytes": Forwarded(
        CHUNKED + b"100\r\n" + bytes(range(256)) + b"\r\n0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        bytes(range(256)),
    ),
    "many small chunks": Forwarded(
        CHUNKED + b"1\r\na\r\n" * 200 + b"0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"a" * 200,
    ),
    "a chunk size of 16 digits": Forwarded(
        CHUNKED + b"0000000000000001\r\na\r\n0\r\n\r\n", POST, ("Host: a", "Transfer-Encoding: chunked"), b"a"
    ),
    "spaces before a chunk extension": Forwarded(
        CHUNKED + b"1 \t;a\r\na\r\n0 ;b\r\n\r\n", POST, ("Host: a", "Transfer-Encoding: chunked"), b"a"
    ),
    "a chunk extension that holds what looks like a size": Forwarded(
        CHUNKED + b'1;a="0;5"\r\na\r\n0\r\n\r\n', POST, ("Host: a", "Transfer-Encoding: chunked"), b"a"
    ),
    "chunked in capitals": Forwarded(
        head("Transfer-Encoding: CHUNKED", line=POST) + b"0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
    ),
    "a chunk size in capitals, with zeros": Forwarded(
        CHUNKED + b"000A\r\n0123456789\r\n000\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"0123456789",
    ),
    "chunk extensions are dropped": Forwarded(
        CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n', POST, ("Host: a", "Transfer-Encoding: chunked"), b"abc"
    ),
    "trailers are dropped": Forwarded(
        CHUNKED + b"3\r\nabc\r\n0\r\nX-Trailer: 1\r\nHost: evil\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"abc",
    ),
    "chunks that hold what looks like an end": Forwarded(
        CHUNKED + b"9\r\n0\r\n\r\nGET \r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"0\r\n\r\nGET \r\n\r\n",
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", FORWARDED)
async def test_a_body_is_forwarded(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    await FORWARDED[case].play(worker, recording_backend, bytewise=bytewise)


@BOTH_WAYS
async def test_pipelined_requests_are_answered_in_order(
    worker: Worker, recording_backend: ScriptedBackend, bytewise: bool
) -> None:
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        await client.send(
            get("/1")
            + b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\r\n\r\n"
            + get("/3")
            + b"POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"4\r\n\r\n\r\n\r\n0\r\nT: 1\r\n\r\n"
            + b"HEAD /5 HTTP/1.1\r\nHost: a\r\n\r\n"
            + get("/6"),
            bytewise=bytewise,
        )
        for method in ("GET", "POST", "GET", "POST", "HEAD", "GET"):
            assert (await client.receive(method=method)).status == 200
    assert [received.target for received in recording_backend.received] == ["/1", "/2", "/3", "/4", "/5", "/6"]


async def test_a_large_body_goes_behind_its_head(worker: Worker, recording_backend: ScriptedBackend) -> None:
    body = bytes(range(256)) * 512
    async with await RawClient.connect(worker.port) as client:
        # The first one waits for a connection to the backend, the second finds it.
        for _ in range(2):
            recording_backend.received.clear()
            fields = f"Content-Length: {len(body)}"
            assert (await client.exchange(head(fields, line=POST) + body)).status == 200
            assert [received.body for received in recording_backend.received] == [body]


async def test_requests_before_a_malformed_one_are_answered(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    async with await RawClient.connect(worker.port) as client:
        await client.send(get("/1") + get("/2") + b"BROKEN\r\n\r\n" + get("/3"))
        assert (await client.receive()).status == 200
        assert (await client.receive()).status == 200
        assert (await client.receive()).status == 400
        assert await client.is_closed()


async def test_nothing_after_connection_close_is_answered(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        await client.send(get("/1", "a", "Connection: close") + get("/2"))
        answer = await client.receive()
        assert answer.get("connection") == "close"
        assert await client.is_closed()
    assert [received.target for received in recording_backend.received] == ["/1"]
