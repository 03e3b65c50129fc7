"""What a client gets for responses of a backend that cannot be used, or break off, whole and byte by byte."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.backends import backend_sending
from tests.support.http import IncompleteResponseError, RawClient, get
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
class Unusable:
    """A response that cannot be used, and the RFC 9209 error that says why."""

    sent: bytes
    error: str = "http_protocol_error"
    request: bytes = GET


UNUSABLE: dict[str, Unusable] = {
    "garbage": Unusable(b"\x15\x03\x01\x00\x02\x02F"),
    "not HTTP": Unusable(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "ICY": Unusable(b"ICY 200 OK\r\n\r\n"),
    "a page without a head": Unusable(b"<html>\r\n\r\n</html>"),
    "a byte order mark before the status line": Unusable(b"\xef\xbb\xbf" + OK + END),
    "a bare LF before the status line": Unusable(b"\n" + OK + END),
    "a field before the status line": Unusable(b"X: 1\r\n" + OK + END),
    "a status of three zeros": Unusable(b"HTTP/1.1 000 OK\r\n" + END),
    "a status of 1000": Unusable(b"HTTP/1.1 1000 OK\r\n" + END),
    "a negative status": Unusable(b"HTTP/1.1 -200 OK\r\n" + END),
    "a status with a fraction": Unusable(b"HTTP/1.1 200.0 OK\r\n" + END),
    "a status in two parts": Unusable(b"HTTP/1.1 2 00 OK\r\n" + END),
    "a status in full width digits": Unusable(b"HTTP/1.1 \xef\xbc\x92\xef\xbc\x90\xef\xbc\x90 OK\r\n" + END),
    "an escape in the reason": Unusable(b"HTTP/1.1 200 O\x1bK\r\n" + END),
    "a version with two dots": Unusable(b"HTTP/1.1.1 200 OK\r\n" + END),
    "HTTPS for a protocol": Unusable(b"HTTPS/1.1 200 OK\r\n" + END),
    "HTTP/2.0": Unusable(b"HTTP/2.0 200 OK\r\n" + END),
    "an empty line before the status line": Unusable(b"\r\nHTTP/1.1 200 OK\r\n" + END),
    "a space before the status line": Unusable(b" HTTP/1.1 200 OK\r\n" + END),
    "the protocol in lower case": Unusable(b"http/1.1 200 OK\r\n" + END),
    "HTTP/1.2": Unusable(b"HTTP/1.2 200 OK\r\n" + END),
    "HTTP/1.10": Unusable(b"HTTP/1.10 200 OK\r\n" + END),
    "no status": Unusable(b"HTTP/1.1\r\n" + END),
    "a status without a space behind it": Unusable(b"HTTP/1.1 200OK\r\n" + END),
    "a status with a sign": Unusable(b"HTTP/1.1 +20 OK\r\n" + END),
    "a tab before the status": Unusable(b"HTTP/1.1\t200 OK\r\n" + END),
    "a tab after the status": Unusable(b"HTTP/1.1 200\tOK\r\n" + END),
    "a NUL in the reason": Unusable(b"HTTP/1.1 200 O\x00K\r\n" + END),
    "a DEL in the reason": Unusable(b"HTTP/1.1 200 O\x7fK\r\n" + END),
    "HTTP/0.9": Unusable(b"HTTP/0.9 200 OK\r\n" + END),
    "a status of two digits": Unusable(b"HTTP/1.1 20 OK\r\n" + END),
    "a status of four digits": Unusable(b"HTTP/1.1 2000 OK\r\n" + END),
    "a status below 100": Unusable(b"HTTP/1.1 099 OK\r\n" + END),
    "a status with letters": Unusable(b"HTTP/1.1 2x0 OK\r\n" + END),
    "two spaces before the status": Unusable(b"HTTP/1.1  200 OK\r\n" + END),
    "a bare LF after the status line": Unusable(b"HTTP/1.1 200 OK\n" + END),
    "a bare CR in the reason": Unusable(b"HTTP/1.1 200 O\rK\r\n" + END),
    "a space before the colon": Unusable(OK + b"X : 1\r\n" + END),
    "a space before the colon of Content-Length": Unusable(OK + b"Content-Length : 2\r\n\r\nok"),
    "a space before the colon of Transfer-Encoding": Unusable(
        OK + b"Transfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "a first field that begins with a space": Unusable(OK + b" X: 1\r\n" + END),
    "a field folded by a tab": Unusable(OK + b"X: 1\r\n\t2\r\n" + END),
    "a field without a name": Unusable(OK + b": 1\r\n" + END),
    "a DEL in a value": Unusable(OK + b"X: a\x7fb\r\n" + END),
    "a NUL in a name": Unusable(OK + b"X\x00: 1\r\n" + END),
    "a byte above ASCII in a name": Unusable(OK + b"X\xe9: 1\r\n" + END),
    "bare LFs throughout": Unusable(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    "a bare LF that ends the head": Unusable(OK + b"Content-Length: 2\r\n\nok"),
    "a bare CR that ends the head": Unusable(OK + b"Content-Length: 2\r\n\rok"),
    "a CR CR LF": Unusable(OK + b"X: 1\r\r\n" + END),
    "a folded field": Unusable(OK + b"X: 1\r\n 2\r\n" + END),
    "a bare CR in a value, to split the response": Unusable(OK + b"X: a\rSet-Cookie: b=c\r\n" + END),
    "a bare LF in a value, to split the response": Unusable(OK + b"X: a\nSet-Cookie: b=c\r\n" + END),
    "a NUL in a value": Unusable(OK + b"X: a\x00b\r\n" + END),
    "a control character in a value": Unusable(OK + b"X: a\x01b\r\n" + END),
    "a field name that is no token": Unusable(OK + b"X(: 1\r\n" + END),
    "a field without a colon": Unusable(OK + b"X\r\n" + END),
    "Content-Length and chunked": Unusable(
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "chunked and Content-Length": Unusable(
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "two Content-Lengths": Unusable(OK + b"Content-Length: 3\r\n" + END),
    "two Content-Lengths, one of them empty": Unusable(OK + b"Content-Length:\r\n" + END),
    "Content-Length and chunked of a 304": Unusable(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "Content-Length and chunked to HEAD": Unusable(
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", request=HEAD
    ),
    "Content-Length and identity": Unusable(
        OK + b"Transfer-Encoding: identity\r\n" + END, "http_response_transfer_coding"
    ),
    "an empty Content-Length": Unusable(OK + b"Content-Length:\r\n\r\nok"),
    "a negative Content-Length": Unusable(OK + b"Content-Length: -2\r\n\r\nok"),
    "a Content-Length with a plus": Unusable(OK + b"Content-Length: +2\r\n\r\nok"),
    "a hexadecimal Content-Length": Unusable(OK + b"Content-Length: 0x2\r\n\r\nok"),
    "a Content-Length with a space within": Unusable(OK + b"Content-Length: 2 2\r\n\r\nok"),
    "a list of Content-Lengths that differ": Unusable(OK + b"Content-Length: 2, 3\r\n\r\nok"),
    "a list of Content-Lengths": Unusable(OK + b"Content-Length: 2, 2\r\n\r\nok"),
    "a Content-Length that is no number": Unusable(OK + b"Content-Length: two\r\n\r\nok"),
    "a Content-Length that overflows": Unusable(OK + b"Content-Length: 99999999999999999999\r\n\r\nok"),
    "a list of Content-Lengths without a space": Unusable(OK + b"Content-Length: 2,2\r\n\r\nok"),
    "a Content-Length with a semicolon": Unusable(OK + b"Content-Length: 2;\r\n\r\nok"),
    "a Content-Length with a no-break space": Unusable(OK + b"Content-Length: \xa02\r\n\r\nok"),
    "a Content-Length of minus zero": Unusable(OK + b"Content-Length: -0\r\n\r\n"),
    "a Content-Length on the next line": Unusable(OK + b"Content-Length:\r\n 2\r\n\r\nok"),
    "a Content-Length of a 204 that is no number": Unusable(
        b"HTTP/1.1 204 No Content\r\nContent-Length: x\r\n\r\n"
    ),
    "chunked with a parameter": Unusable(
        OK + b"Transfer-Encoding: chunked;a\r\n\r\n0\r\n\r\n", "http_response_transfer_coding"
    ),
    "chunked with a comma behind": Unusable(
        OK + b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "http_response_transfer_coding"
    ),
    "chunked in quotes": Unusable(
        OK + b"Transfer-Encoding: 'chunked'\r\n\r\n0\r\n\r\n", "http_response_transfer_coding"
    ),
    "chunked with a vertical tab": Unusable(OK + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    "identity behind chunked": Unusable(
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "http_response_transfer_coding",
    ),
    "another transfer coding": Unusable(
        OK + b"Transfer-Encoding: gzip\r\n\r\nok", "http_response_transfer_coding"
    ),
    "another transfer coding before chunked": Unusable(
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "http_response_transfer_coding"
    ),
    "another transfer coding behind chunked": Unusable(
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "http_response_transfer_coding"
    ),
    "chunked twice": Unusable(
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "http_response_transfer_coding",
    ),
    "an empty transfer coding": Unusable(OK + b"Transfer-Encoding:\r\n\r\nok", "http_response_transfer_coding"),
    "xchunked": Unusable(OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "http_response_transfer_coding"),
    "chunked from HTTP/1.0": Unusable(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "too many fields": Unusable(
        OK + b"".join(b"X%d: 1\r\n" % i for i in range(101)) + END, "http_response_header_section_size"
    ),
    "too large a head": Unusable(
        OK + b"X: " + b"a" * 66000 + b"\r\n" + END, "http_response_header_section_size"
    ),
    "a head without end": Unusable(OK + b"X: " + b"a" * 400_000, "http_response_header_section_size"),
    "nothing": Unusable(b"", "connection_terminated"),
    "part of a head": Unusable(OK + b"Content-Length: 2\r\n", "http_response_incomplete"),
    "only an interim response": Unusable(
        b"HTTP/1.1 103 Early Hints\r\n\r\n", "http_response_incomplete", GET_1_0
    ),
    "101 that nobody asked for": Unusable(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "http_upgrade_failed"
    ),
    "an interim response and garbage": Unusable(b"HTTP/1.1 103 Hm\r\n\r\nSSH-2.0\r\n", request=GET_1_0),
    "a malformed interim response": Unusable(b"HTTP/1.1 103 Hm\r\nX : 1\r\n\r\n" + OK + END),
    "an interim response with two framings": Unusable(
        b"HTTP/1.1 103 Hm\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + OK + END
    ),
    "101 without an Upgrade field": Unusable(
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "http_upgrade_failed"
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", UNUSABLE)
async def test_an_unusable_response_is_a_502(worker: Worker, case: str, bytewise: bool) -> None:
    unusable = UNUSABLE[case]
    async with backend_sending(unusable.sent, bytewise=bytewise and len(unusable.sent) < 100_000) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(unusable.request)
            assert answer.status == 502
            assert answer.proxy_status == f"weldr; error={unusable.error}"
            assert answer.body.count(b"\n") == (unusable.request != HEAD)
            assert answer.get("set-cookie") is None
            # The client has done nothing wrong: its connection is kept.
            assert (await client.exchange(unusable.request)).status == 502
    assert len(backend.received) == 2


# What must not look complete to the client.
TRUNCATED: dict[str, tuple[bytes, bytes]] = {
    "a short Content-Length": (OK + b"Content-Length: 10\r\n\r\nok", GET),
    "chunks without the last one": (CHUNKED + b"2\r\nok\r\n", GET),
    "a chunk in the middle": (CHUNKED + b"a\r\nok", GET),
    "a chunk size in the middle": (CHUNKED + b"2\r\nok\r\n1", GET),
    "the last chunk without its end": (CHUNKED + b"2\r\nok\r\n0\r\n", GET),
    "a trailer in the middle": (CHUNKED + b"2\r\nok\r\n0\r\nX: 1\r\n", GET),
    "a malformed chunk size": (CHUNKED + b"2\r\nok\r\nx\r\n", GET),
    "a chunk longer than its size": (CHUNKED + b"1\r\nok\r\n0\r\n\r\n", GET),
    "chunks for an HTTP/1.0 client": (CHUNKED + b"2\r\nok\r\n", GET_1_0),
    "a chunk size with 0x": (CHUNKED + b"2\r\nok\r\n0x1\r\na\r\n0\r\n\r\n", GET),
    "a chunk size with a plus": (CHUNKED + b"2\r\nok\r\n+1\r\na\r\n0\r\n\r\n", GET),
    "a chunk size with a space behind": (CHUNKED + b"2\r\nok\r\n1 \r\na\r\n0\r\n\r\n", GET),
    "a last chunk of minus zero": (CHUNKED + b"2\r\nok\r\n-0\r\n\r\n", GET),
    "a chunk size that overflows": (CHUNKED + b"2\r\nok\r\n10000000000000000\r\n\r\n", GET),
    "a bare LF behind a chunk size": (CHUNKED + b"2\r\nok\r\n1\na\r\n0\r\n\r\n", GET),
    "a bare LF behind a chunk": (CHUNKED + b"2\r\nok\n0\r\n\r\n", GET),
    "a bare LF in a chunk extension": (CHUNKED + b"2\r\nok\r\n0;a\nb\r\n\r\n", GET),
    "quotes that do not end in a chunk extension": (CHUNKED + b'2\r\nok\r\n0;a="b\r\n\r\n', GET),
    "a bare LF for the last line": (CHUNKED + b"2\r\nok\r\n0\r\n\n", GET),
    "a folded trailer": (CHUNKED + b"2\r\nok\r\n0\r\nX: 1\r\n 2\r\n\r\n", GET),
    "a response in place of the trailer": (CHUNKED + b"2\r\nok\r\n0\r\n" + OK + END, GET),
    "a short Content-Length for an HTTP/1.0 client": (OK + b"Content-Length: 10\r\n\r\nok", GET_1_0),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", TRUNCATED)
async def test_a_truncated_response_does_not_look_complete(worker: Worker, case: str, bytewise: bool) -> None:
    sent, asked = TRUNCATED[case]
    async with backend_sending(sent, bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(asked)
            try:
                answer = await client.receive()
            except IncompleteResponseError:
                return
            # All of it came in one piece, and so it was known to be unusable before anything was passed on.
            assert answer.status == 502


async def test_a_response_is_cut_off_by_a_reset_where_its_end_would_be_its_completion(worker: Worker) -> None:
    async with backend_sending(CHUNKED + b"2\r\nok\r\n") as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(GET_1_0)
            assert b"\r\n\r\nok" in await client.reader.readuntil(b"ok")
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
