"""What a client gets for what a backend sends, sent in one piece and byte by byte.

A case is what the backend sends before it closes, the request, and what the client must see.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.support.backends import backend_sending
from tests.support.http import RawClient, get, request
from tests.support.worker import Worker, traffic

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])

GET = get()
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"Content-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Passed:
    """A response that is passed on: the fields but weldr's own and those that every server adds."""

    sent: bytes
    fields: tuple[str, ...] = ("content-length: 2",)
    body: bytes = b"ok"
    status: int = 200
    request: bytes = GET
    interim: tuple[int, ...] = ()
    persistent: bool = True


PASSED: dict[str, Passed] = {
    "Content-Length": Passed(OK + END),
    "an empty body": Passed(OK + b"Content-Length: 0\r\n\r\n", ("content-length: 0",), b""),
    "a body that looks like a response": Passed(
        OK + b"Content-Length: 19\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ("content-length: 19",),
        b"HTTP/1.1 200 OK\r\n\r\n",
    ),
    "chunks": Passed(CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", ("transfer-encoding: chunked",)),
    "the same Content-Length twice is one": Passed(OK + b"Content-Length: 2\r\n" + END),
    "Content-Length with zeros before it": Passed(OK + b"Content-Length: 002\r\n\r\nok"),
    "a body of all bytes": Passed(
        OK + b"Content-Length: 256\r\n\r\n" + bytes(range(256)), ("content-length: 256",), bytes(range(256))
    ),
    "chunks of all bytes": Passed(
        CHUNKED + b"100\r\n" + bytes(range(256)) + b"\r\n0\r\n\r\n",
        ("transfer-encoding: chunked",),
        bytes(range(256)),
    ),
    "chunks that hold what looks like an end": Passed(
        CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", ("transfer-encoding: chunked",), b"0\r\n\r\n"
    ),
    "chunked in capitals": Passed(
        OK + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n", ("transfer-encoding: chunked",)
    ),
    "a body until the connection ends that looks like chunks": Passed(
        OK + b"\r\n2\r\nok\r\n0\r\n\r\n", ("transfer-encoding: chunked",), b"2\r\nok\r\n0\r\n\r\n"
    ),
    "chunks without content": Passed(CHUNKED + b"0\r\n\r\n", ("transfer-encoding: chunked",), b""),
    "chunks for an HTTP/1.0 client end with the connection": Passed(
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n", (), request=GET_1_0, persistent=False
    ),
    "trailers are dropped": Passed(
        OK + b"Trailer: X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n",
        ("transfer-encoding: chunked",),
    ),
    "a body until the connection ends": Passed(OK + b"\r\nok", ("transfer-encoding: chunked",)),
    "an empty body until the connection ends": Passed(OK + b"\r\n", ("transfer-encoding: chunked",), b""),
    "a body until the connection ends, for HTTP/1.0": Passed(
        OK + b"\r\nok", (), request=GET_1_0, persistent=False
    ),
    "a response of HTTP/1.0": Passed(b"HTTP/1.0 200 OK\r\n" + END),
    "a response of HTTP/1.0 until the connection ends": Passed(
        b"HTTP/1.0 200 OK\r\n\r\nok", ("transfer-encoding: chunked",)
    ),
    "Connection: close is the backend's own": Passed(OK + b"Connection: close\r\n" + END),
    "HTTP/1.0 of both sides": Passed(b"HTTP/1.0 200 OK\r\n" + END, request=GET_1_0),
    "a response of HTTP/1.0 to HEAD": Passed(
        b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n", ("content-length: 9",), b"", request=HEAD
    ),
    "HTTP/1.0 keep-alive": Passed(OK + END, request=GET_1_0),
    "no reason phrase": Passed(b"HTTP/1.1 200\r\n" + END),
    "an empty reason phrase": Passed(b"HTTP/1.1 200 \r\n" + END),
    "a reason phrase above ASCII": Passed(b"HTTP/1.1 200 \xe9\r\n" + END),
    "a reason phrase of many words": Passed(b"HTTP/1.1 200 All is (very) well\r\n" + END),
    "a reason phrase of 1000 bytes": Passed(b"HTTP/1.1 200 " + b"a" * 1000 + b"\r\n" + END),
    "the largest status": Passed(b"HTTP/1.1 999 Odd\r\n" + END, status=999),
    "a status without a name": Passed(b"HTTP/1.1 599 Odd\r\n" + END, status=599),
    "an error of the backend": Passed(b"HTTP/1.1 500 Oh\r\n" + END, status=500),
    "the fields, hop-by-hop ones removed": Passed(
        OK
        + b"Set-Cookie: a=1\r\nset-cookie: b=2\r\nX-A: \xe9\r\nX-Empty:\r\n"
        + b"Connection: keep-alive, X-B\r\nX-B: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n"
        + b"Upgrade: h2c\r\n"
        + END,
        ("content-length: 2", "set-cookie: a=1", "set-cookie: b=2", "x-a: \xe9", "x-empty: "),
    ),
    "what Connection names, close among it": Passed(
        OK + b"Connection: close, X-A\r\nX-A: 1\r\nX-B: 2\r\n" + END, ("content-length: 2", "x-b: 2")
    ),
    "Connection cannot remove Date and Via": Passed(
        OK + b"Connection: date, via\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n" + END
    ),
    "Connection cannot remove Transfer-Encoding": Passed(
        OK + b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ("transfer-encoding: chunked",),
    ),
    "Proxy-Authenticate, TE and Trailer are removed": Passed(
        OK + b"Proxy-Authenticate: Basic\r\nTE: trailers\r\nTrailer: X\r\n" + END
    ),
    "spaces around values": Passed(
        OK + b"X-A:1\r\nX-B: \t2 \t\r\nContent-Length:\t2 \r\n\r\nok",
        ("content-length: 2", "x-a: 1", "x-b: 2"),
    ),
    "WWW-Authenticate twice": Passed(
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: A\r\nWWW-Authenticate: B\r\n" + END,
        ("content-length: 2", "www-authenticate: A", "www-authenticate: B"),
        status=401,
    ),
    "a Set-Cookie with a comma": Passed(
        OK + b"Set-Cookie: a=1; Expires=Mon, 01 Jan 2024 00:00:00 GMT\r\n" + END,
        ("content-length: 2", "set-cookie: a=1; Expires=Mon, 01 Jan 2024 00:00:00 GMT"),
    ),
    "Connection cannot remove Content-Length": Passed(OK + b"Connection: content-length\r\n" + END),
    "a redirect": Passed(
        b"HTTP/1.1 302 Found\r\nLocation: http://b/?a=b#c\r\n" + END,
        ("content-length: 2", "location: http://b/?a=b#c"),
        status=302,
    ),
    # Without a body by their nature.
    "HEAD with Content-Length": Passed(
        OK + b"Content-Length: 100\r\n\r\n", ("content-length: 100",), b"", request=HEAD
    ),
    "HEAD with chunked": Passed(CHUNKED, (), b"", request=HEAD),
    "HEAD without framing": Passed(OK + b"\r\n", (), b"", request=HEAD),
    "HEAD with a body that should not be there": Passed(OK + END, ("content-length: 2",), b"", request=HEAD),
    "HEAD with Content-Length 0": Passed(
        OK + b"Content-Length: 0\r\n\r\n", ("content-length: 0",), b"", request=HEAD
    ),
    "HEAD with an error": Passed(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n", ("content-length: 9",), b"", 404, HEAD
    ),
    "204 with chunked": Passed(
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (), b"", 204
    ),
    "204 for HTTP/1.0": Passed(b"HTTP/1.1 204 No Content\r\n\r\n", (), b"", 204, GET_1_0),
    "205 with Content-Length 0": Passed(
        b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", ("content-length: 0",), b"", 205
    ),
    "205 with content": Passed(b"HTTP/1.1 205 Reset Content\r\n" + END, status=205),
    "206": Passed(
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\n" + END,
        ("content-length: 2", "content-range: bytes 0-1/9"),
        status=206,
    ),
    "416 without a body": Passed(
        b"HTTP/1.1 416 No\r\nContent-Range: bytes */9\r\nContent-Length: 0\r\n\r\n",
        ("content-length: 0", "content-range: bytes */9"),
        b"",
        416,
    ),
    "a reason phrase that looks like a version": Passed(b"HTTP/1.1 200 HTTP/1.1 200 OK\r\n" + END),
    "a Content-Length with tabs around": Passed(OK + b"Content-Length:\t2\t\r\n\r\nok"),
    "a length under another name": Passed(
        OK + b"X-Content-Length: 9\r\nContent-Lengths: 9\r\n" + END,
        ("content-length: 2", "content-lengths: 9", "x-content-length: 9"),
    ),
    "Connection names what frames, close and nothing": Passed(
        OK + b"Connection: ,content-length, , transfer-encoding,close,\r\n" + END
    ),
    "no chunk but many zeros": Passed(
        CHUNKED + b"0000000000000000\r\n\r\n", ("transfer-encoding: chunked",), b""
    ),
    "a body that looks like an interim response": Passed(
        OK + b"Content-Length: 25\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        ("content-length: 25",),
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ),
    "a final response behind one of each kind of interim ones": Passed(
        b"HTTP/1.1 100 A\r\n\r\nHTTP/1.1 102 B\r\n\r\nHTTP/1.1 103 C\r\n\r\nHTTP/1.0 104 D\r\n\r\n" + OK + END,
        interim=(100, 102, 103, 104),
    ),
    "304 with a body that should not be there": Passed(
        b"HTTP/1.1 304 Not Modified\r\n" + END, ("content-length: 2",), b"", 304
    ),
    "304 for HTTP/1.0": Passed(b"HTTP/1.1 304 Not Modified\r\n\r\n", (), b"", 304, GET_1_0),
    "204": Passed(b"HTTP/1.1 204 No Content\r\n\r\n", (), b"", 204),
    "204 with Content-Length": Passed(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", (), b"", 204),
    "204 with a body": Passed(b"HTTP/1.1 204 No Content\r\n" + END, (), b"", 204),
    "304": Passed(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", ("etag: x",), b"", 304),
    "304 with Content-Length": Passed(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", ("content-length: 100",), b"", 304
    ),
    "304 with chunked": Passed(
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", (), b"", 304
    ),
    # Interim responses.
    "100": Passed(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + END, interim=(100,)),
    "103 twice": Passed(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n"
        + OK
        + END,
        interim=(103, 103),
    ),
    "1xx are not for HTTP/1.0": Passed(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + END, request=GET_1_0
    ),
    "1xx before a HEAD response": Passed(
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 9\r\n\r\n",
        ("content-length: 9",),
        b"",
        request=HEAD,
        interim=(103,),
    ),
    # More than the response: it belongs to nobody.
    "bytes after the response": Passed(OK + END + b"EXTRA"),
    "a second response": Passed(OK + END + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
    "bytes after the last chunk": Passed(
        CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ("transfer-encoding: chunked",)
    ),
    "bytes after Connection: close": Passed(OK + b"Connection: close\r\n" + END + b"EXTRA"),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", PASSED)
async def test_a_response_is_passed_on(worker: Worker, case: str, bytewise: bool) -> None:
    expected = PASSED[case]
    async with backend_sending(expected.sent, bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(expected.request)
            assert answer.status == expected.status
            assert answer.body == expected.body
            assert [each.status for each in answer.interim] == list(expected.interim)
            ours = {"via", "date", "connection"}
            fields = [f"{name}: {value}" for name, value in answer.fields if name not in ours]
            assert sorted(fields) == sorted(expected.fields)
            assert answer.get("date") is not None
            version = b"1.0" if expected.sent.startswith(b"HTTP/1.0") else b"1.1"
            assert answer.get("via") == f"{version.decode()} weldr"
            if not expected.persistent:
                assert answer.get("connection") == "close"
                assert await client.is_closed()
                return
            assert answer.get("connection") == ("keep-alive" if expected.request == GET_1_0 else None)
            # The client's connection carries another exchange, and that gets its own response.
            again = await client.exchange(expected.request)
            assert (again.status, again.body) == (expected.status, expected.body)
    assert len(backend.received) == 2


@BOTH_WAYS
async def test_a_date_of_the_backend_is_the_only_one(worker: Worker, bytewise: bool) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    sent = OK + b"Date: " + date.encode() + b"\r\nConnection: date\r\n" + END
    async with backend_sending(sent, bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, GET)).get("date") == date


@BOTH_WAYS
async def test_a_date_that_is_missing_is_made(worker: Worker, bytewise: bool) -> None:
    async with backend_sending(OK + END, bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        made = (await request(worker.port, GET)).get("date")
        assert made is not None
        assert abs(parsedate_to_datetime(made) - datetime.now(UTC)) < timedelta(seconds=10)


async def test_a_date_of_a_response_with_chunks_is_the_only_one(worker: Worker) -> None:
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    chunked = CHUNKED[:-2] + b"Date: " + date.encode() + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with backend_sending(chunked) as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, GET)).get("date") == date


async def test_via_of_a_response_is_appended(worker: Worker) -> None:
    async with backend_sending(b"HTTP/1.0 200 OK\r\nVia: 1.1 first\r\nConnection: via\r\n" + END) as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, GET)).get("via") == "1.1 first, 1.0 weldr"


async def test_a_reason_phrase_is_passed_on(worker: Worker) -> None:
    async with backend_sending(b"HTTP/1.1 200 All is well\r\n" + END) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(GET)
            assert await client.reader.readline() == b"HTTP/1.1 200 All is well\r\n"


async def test_an_interim_response_keeps_its_fields_but_hop_by_hop_ones(worker: Worker) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-B\r\nX-B: 1\r\nKeep-Alive: x\r\n\r\n"
    async with backend_sending(hints + OK + END) as backend:
        await worker.serve(traffic(backend.port))
        [interim] = (await request(worker.port, GET)).interim
    assert interim.fields == [("link", "</a>"), ("via", "1.1 weldr")]
