"""Whole streams of bytes from one client, as attacks and awkward clients send them: what reaches the backend,
and what comes back in which order.

Among them are the desynchronisations of published research (CL.TE, TE.CL, TE.TE, CL.0, 0.CL, chunk extensions
and chunk ends that are read in two ways). What weldr takes for one request must reach the backend as one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.support.backends import Received, ScriptedBackend
from tests.support.http import RawClient, get
from tests.support.worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVIL = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
ONE, TWO = get("/1", "a"), get("/2", "a")


@dataclass(frozen=True)
class Stream:
    """What is sent, the status of each answer, and method, target and body of each request that got through."""

    sent: bytes
    answers: tuple[int, ...]
    reached: tuple[str, ...] = ()
    goes_on: bool = False
    """Whether another request can follow on the connection."""
    fields: tuple[str, ...] = ()
    """Some that the last request has, as `name: value`; a name alone is one that it has not."""


def refused(sent: bytes, status: int = 400) -> Stream:
    """Refused behind a good request, which is answered before."""
    return Stream(ONE + sent, (200, status), ("GET /1",))


def taken(sent: bytes, *reached: str, fields: tuple[str, ...] = ()) -> Stream:
    """Each of these requests gets through, and the connection goes on."""
    return Stream(sent, (200,) * len(reached), reached, goes_on=True, fields=fields)


def post(*fields: str, body: bytes = b"", line: str = "POST / HTTP/1.1") -> bytes:
    return "\r\n".join((line, "Host: a", *fields, "", "")).encode("latin-1") + body


def chunked(body: bytes) -> bytes:
    return post("Transfer-Encoding: chunked", body=body)


def smuggled(*fields: str) -> Stream:
    """Two ways to read where the body ends: one of them has a second request in it."""
    return refused(post(*fields, body=b"0\r\n\r\n" + EVIL))


CL = f"Content-Length: {5 + len(EVIL)}"

STREAMS: dict[str, Stream] = {
    # Two framings, and a framing that is hidden from one of two readers.
    "CL.TE": smuggled(CL, "Transfer-Encoding: chunked"),
    "TE.CL": smuggled("Transfer-Encoding: chunked", "Content-Length: 4"),
    "TE.TE, the second with a capital": smuggled("Transfer-Encoding: chunked", "Transfer-encoding: x"),
    "TE.TE, an empty one between": smuggled("Transfer-Encoding:", CL, "Transfer-Encoding: chunked"),
    "chunked-false": smuggled("Transfer-Encoding: chunked-false"),
    "chunked with an accent": smuggled("Transfer-Encoding: ch\xfcnked"),
    "chunked with a long s": smuggled("Transfer-Encoding: chunked\xc5\xbf"),
    "chunked with a trailing next line": smuggled("Transfer-Encoding: chunked\x85"),
    "chunked in single quotes": smuggled("Transfer-Encoding: 'chunked'"),
    "chunked with a colon before": smuggled("Transfer-Encoding: :chunked"),
    "chunked as a parameter": smuggled("Transfer-Encoding: x;chunked"),
    "chunked behind an equals sign": smuggled("Transfer-Encoding= chunked", "Transfer-Encoding: chunked"),
    "chunked behind an escaped space": smuggled("Transfer-Encoding: %20chunked"),
    "compress and chunked in two fields": smuggled("Transfer-Encoding: compress", "Transfer-Encoding: chunked"),
    "trailers for a coding": smuggled("Transfer-Encoding: trailers, chunked"),
    "a byte order mark before Transfer-Encoding": smuggled("\xef\xbb\xbfTransfer-Encoding: chunked", CL),
    "Transfer-Encoding with a no-break space behind": smuggled("Transfer-Encoding\xa0: chunked", CL),
    "Transfer-Encoding with a NUL behind": smuggled("Transfer-Encoding\x00: chunked", CL),
    "Transfer-Encoding on two lines": smuggled("Transfer-Encoding\r\n : chunked", CL),
    "Transfer-Encoding in the fold of a field": smuggled("X: y\r\n Transfer-Encoding: chunked", CL),
    "Transfer-Encoding behind a bare CR at the end": smuggled("X: y\r", "Transfer-Encoding: chunked", CL),
    "Content-Length in the fold of a field": smuggled(
        "X: y\r\n\tContent-Length: 4", "Transfer-Encoding: chunked"
    ),
    "Content-Length with a vertical tab": refused(post("Content-Length: \x0b3", body=b"abc")),
    "Content-Length with a NUL behind": refused(post("Content-Length: 3\x00", body=b"abc")),
    "Content-Length of two numbers by a tab": refused(post("Content-Length: 3\t0", body=b"abc" + EVIL)),
    "Content-Length as a list without a space": refused(post("Content-Length: 3,3", body=b"abc")),
    "Content-Length with a comma before": refused(post("Content-Length: ,3", body=b"abc")),
    "Content-Length in octal, by a letter": refused(post("Content-Length: 0o3", body=b"abc")),
    "Content-Length of full width digits": refused(post("Content-Length: \xef\xbc\x93", body=b"abc")),
    "Content-Length with a no-break space": refused(post("Content-Length: \xa03", body=b"abc")),
    "Content-Length of minus zero": refused(post("Content-Length: -0") + EVIL),
    "Content-Length of plus zero": refused(post("Content-Length: +0") + EVIL),
    "Content-Length of 2 to the 32 and one more digit": refused(post("Content-Length: 42949672960000000000")),
    "Content-Length thrice, the last differs": refused(
        post("Content-Length: 3", "Content-Length: 3", "Content-Length: 30", body=b"abc" + EVIL)
    ),
    "Content-Length twice, in hexadecimal and not": refused(
        post("Content-Length: 10", "Content-Length: 0x0a", body=b"0123456789")
    ),
    "Content-Length 0 and 5": refused(post("Content-Length: 0", "Content-Length: 5", body=b"abcde")),
    # One framing, whatever the body looks like.
    "0.CL: a GET whose body is a request": taken(
        post(f"Content-Length: {len(EVIL)}", line="GET /1 HTTP/1.1", body=EVIL) + TWO,
        f"GET /1 {EVIL.decode()}",
        "GET /2",
    ),
    "CL.0: a POST whose body is the beginning of a request": taken(
        post("Content-Length: 26", body=b"GET /evil HTTP/1.1\r\nFoo: x") + TWO,
        "POST / GET /evil HTTP/1.1\r\nFoo: x",
        "GET /2",
    ),
    "an OPTIONS with a body": taken(
        post("Content-Length: 3", line="OPTIONS / HTTP/1.1", body=b"abc") + TWO, "OPTIONS / abc", "GET /2"
    ),
    "a DELETE with chunks": taken(
        post("Transfer-Encoding: chunked", line="DELETE / HTTP/1.1", body=b"3\r\nabc\r\n0\r\n\r\n") + TWO,
        "DELETE / abc",
        "GET /2",
    ),
    "a request behind Content-Length 0": taken(post("Content-Length: 0") + TWO, "POST /", "GET /2"),
    "a request behind a GET with Content-Length 0": taken(
        post("Content-Length: 0", line="GET /1 HTTP/1.1") + TWO, "GET /1", "GET /2"
    ),
    "chunks that come with a Trailer of framing fields": taken(
        chunked(b"1\r\na\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n") + TWO,
        "POST / a",
        "GET /2",
    ),
    "chunks named by odd capitals": taken(
        post("tRANSFER-eNCODING: cHUNKED", body=b"1\r\na\r\n0\r\n\r\n") + TWO, "POST / a", "GET /2"
    ),
    "chunked beside a length under another name": taken(
        post("X-Content-Length: 4", "Content-Lengt: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n") + TWO,
        "POST /",
        "GET /2",
        fields=("content-length",),
    ),
    "a chunk that holds a request": taken(
        chunked(b"%x\r\n" % len(EVIL) + EVIL + b"\r\n0\r\n\r\n") + TWO, f"POST / {EVIL.decode()}", "GET /2"
    ),
    "a chunk extension that holds a request line": taken(
        chunked(b'1;a="GET /evil HTTP/1.1"\r\na\r\n0\r\n\r\n') + TWO, "POST / a", "GET /2"
    ),
    "a chunk extension of quotes, escapes and semicolons": taken(
        chunked(b'1;a="\\";5";b;c=d\r\na\r\n0;x="y"\r\n\r\n') + TWO, "POST / a", "GET /2"
    ),
    "chunk extensions with spaces and tabs around all of their parts": taken(
        chunked(b'1 ;\ta = b\t; c=\t"d \t\xe9" ;e\r\na\r\n0;\tf\r\n\r\n') + TWO, "POST / a", "GET /2"
    ),
    # Chunks that two readers cut at different places.
    "a chunk extension whose quotes do not end": refused(chunked(b'1;a="b\r\na\r\n0\r\n\r\n') + EVIL),
    "a chunk extension whose last quote is escaped": refused(chunked(b'1;a="\\"\r\na\r\n0\r\n\r\n') + EVIL),
    "a chunk extension without a name": refused(chunked(b"1;\r\na\r\n0\r\n\r\n") + EVIL),
    "a chunk extension of a value alone": refused(chunked(b"1;=a\r\na\r\n0\r\n\r\n") + EVIL),
    "a chunk extension without the value": refused(chunked(b"1;a=\r\na\r\n0\r\n\r\n") + EVIL),
    "a chunk extension whose name is no token": refused(chunked(b"1;a[=b\r\na\r\n0\r\n\r\n") + EVIL),
    "a chunk extension whose value is no token": refused(chunked(b"1;a=b/c\r\na\r\n0\r\n\r\n") + EVIL),
    "a chunk extension with something behind the quotes": refused(
        chunked(b'1;a="b"c\r\na\r\n0\r\n\r\n') + EVIL
    ),
    "a chunk extension with a space at the end": refused(chunked(b"1;a \r\na\r\n0\r\n\r\n") + EVIL),
    "a chunk extension of two words": refused(chunked(b"1;GET /evil HTTP/1.1\r\na\r\n0\r\n\r\n") + EVIL),
    "a bare LF in a quoted chunk extension": refused(chunked(b'1;a="\n"\r\na\r\n0\r\n\r\n') + EVIL),
    "a bare CR in a quoted chunk extension": refused(chunked(b'1;a="\r"\r\na\r\n0\r\n\r\n') + EVIL),
    "a bare LF right behind the semicolon": refused(chunked(b"2;\nxx\r\n4f\r\n0\r\n\r\n" + EVIL)),
    "a bare CR right behind the semicolon": refused(chunked(b"2;\rxx\r\n4f\r\n0\r\n\r\n" + EVIL)),
    "a bare LF that ends a chunk with an extension": refused(chunked(b"1;x\r\na\n0\r\n\r\n" + EVIL)),
    "two CRLFs behind a chunk": refused(chunked(b"1\r\na\r\n\r\n0\r\n\r\n")),
    "a space behind a chunk": refused(chunked(b"1\r\na \r\n0\r\n\r\n")),
    "a next chunk in place of a chunk's end": refused(chunked(b"1\r\na1\r\nb\r\n0\r\n\r\n")),
    "LF CR behind a chunk": refused(chunked(b"1\r\na\n\r0\r\n\r\n")),
    "a vertical tab behind a chunk size": refused(chunked(b"1\x0b\r\na\r\n0\r\n\r\n")),
    "a form feed before a chunk size": refused(chunked(b"\x0c1\r\na\r\n0\r\n\r\n")),
    "a chunk size in full width digits": refused(chunked(b"\xef\xbc\x91\r\na\r\n0\r\n\r\n")),
    "a chunk size with a dot": refused(chunked(b"1.0\r\na\r\n0\r\n\r\n")),
    "a chunk size with an apostrophe": refused(chunked(b"1'0\r\n0123456789abcdef\r\n0\r\n\r\n")),
    "a chunk size of two numbers": refused(chunked(b"1 1\r\na\r\n0\r\n\r\n")),
    "a chunk size with a capital X": refused(chunked(b"0X1\r\na\r\n0\r\n\r\n")),
    "a last chunk of minus zero": refused(chunked(b"-0\r\n\r\n") + EVIL),
    "a last chunk of 19 zeros": refused(chunked(b"0" * 19 + b"\r\n\r\n") + EVIL),
    "a last chunk with a body behind it": refused(chunked(b"0\r\nabc\r\n\r\n")),
    "a trailer that begins with a space": refused(chunked(b"0\r\n X: 1\r\n\r\n") + EVIL),
    "a trailer with a bare CR": refused(chunked(b"0\r\nX: a\rY: b\r\n\r\n") + EVIL),
    "a trailer that ends with bare LFs": refused(chunked(b"0\r\nX: a\n\n") + EVIL),
    "a trailer whose name is no token": refused(chunked(b"0\r\nX Y: a\r\n\r\n") + EVIL),
    # The request line and the head.
    "a space before the version's slash": refused(b"GET / HTTP /1.1\r\nHost: a\r\n\r\n"),
    "a space behind the version's slash": refused(b"GET / HTTP/ 1.1\r\nHost: a\r\n\r\n"),
    "a version without a dot": refused(b"GET / HTTP/11\r\nHost: a\r\n\r\n"),
    "a version with an empty minor": refused(b"GET / HTTP/1.\r\nHost: a\r\n\r\n"),
    "a version with an empty major": refused(b"GET / HTTP/.1\r\nHost: a\r\n\r\n"),
    "a version twice": refused(b"GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "HTTPS for a protocol": refused(b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n"),
    "a method in quotes": refused(b'"GET" / HTTP/1.1\r\nHost: a\r\n\r\n'),
    "a method with a slash": refused(b"GET/ / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target in angle brackets": refused(b"GET <http://a/> HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target that begins with a backslash": refused(b"GET \\ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "a target of a query": refused(b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two asterisks": refused(b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an asterisk with POST": refused(b"POST * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an asterisk with a path": refused(b"OPTIONS */ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target of ws": refused(b"GET ws://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with a backslash": refused(b"GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with one slash more": refused(b"GET http:///a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with half a bracket": refused(b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with two hosts": refused(b"GET http://a,b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with a port of letters": refused(b"GET http://a:x/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target with a user and a password": refused(b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "an absolute target beside an empty Host": refused(b"GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n"),
    "HTTP/2.0 behind a good request": refused(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "TRACE behind a good request": refused(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n" + EVIL, 405),
    "CONNECT behind a good request": refused(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + EVIL, 405),
    "a long line behind a good request": refused(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "101 fields behind a good request": refused(get("/", "a", *["X: 1"] * 100), 431),
    "a Host with a space before the colon beside a good one": refused(
        b"GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n"
    ),
    "a Host beside one behind a fold": refused(b"GET / HTTP/1.1\r\nX: y\r\n Host: b\r\nHost: a\r\n\r\n"),
    "a Host with a port before a user": refused(b"GET / HTTP/1.1\r\nHost: a:80@b\r\n\r\n"),
    "a Host with a slash in front": refused(b"GET / HTTP/1.1\r\nHost: /a\r\n\r\n"),
    "a Host with a semicolon-joined port": refused(b"GET / HTTP/1.1\r\nHost: a:80;b\r\n\r\n"),
    "a Host with an escaped bracket": refused(b"GET / HTTP/1.1\r\nHost: [%3A%3A1]\r\n\r\n"),
    "a Host of a future address": refused(b"GET / HTTP/1.1\r\nHost: [v1.x]\r\n\r\n"),
    "a Host with two brackets": refused(b"GET / HTTP/1.1\r\nHost: [[::1]]\r\n\r\n"),
    "a Host with a plus before its port": refused(b"GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n"),
    "a Host with a space before its port": refused(b"GET / HTTP/1.1\r\nHost: a: 80\r\n\r\n"),
    "a Host with a port in hexadecimal": refused(b"GET / HTTP/1.1\r\nHost: a:0x50\r\n\r\n"),
    "no colon but a NUL": refused(b"GET / HTTP/1.1\r\nHost: a\r\nX\x001\r\n\r\n"),
    "a name of a no-break space": refused(b"GET / HTTP/1.1\r\nHost: a\r\n\xa0: 1\r\n\r\n"),
    "a name with an at sign": refused(b"GET / HTTP/1.1\r\nHost: a\r\nX@Y: 1\r\n\r\n"),
    "a name with a backslash": refused(b"GET / HTTP/1.1\r\nHost: a\r\nX\\Y: 1\r\n\r\n"),
    "a name in braces": refused(b"GET / HTTP/1.1\r\nHost: a\r\n{X}: 1\r\n\r\n"),
    "a name with an equals sign": refused(b"GET / HTTP/1.1\r\nHost: a\r\nX=Y: 1\r\n\r\n"),
    "a field that is a request line": refused(b"GET / HTTP/1.1\r\nHost: a\r\nGET /evil HTTP/1.1\r\n\r\n"),
    "a bell in a value": refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x07\r\n\r\n"),
    "a unit separator in a value": refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x1fb\r\n\r\n"),
    "a bare LF before the empty line": refused(b"GET / HTTP/1.1\r\nHost: a\n\r\n" + EVIL),
    "a bare CR between the two last line breaks": refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n" + EVIL),
    "Content-Length with an underscore and a capital": refused(post("CONTENT_length: 4", body=EVIL)),
    # Good ones.
    "a Host with port 0": taken(get("/", "a:0"), "GET /", fields=("host: a:0",)),
    "a Host with zeros before its port": taken(get("/", "a:00080"), "GET /", fields=("host: a:00080",)),
    "a Host of sub-delimiters": taken(get("/", "a!$&'()*+;=b"), "GET /", fields=("host: a!$&'()*+;=b",)),
    "an absolute target of https beside another Host": taken(
        b"GET HTTPS://b:65535/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /x?y",
        fields=("host: b:65535", "x-forwarded-host: b:65535", "x-forwarded-proto: http"),
    ),
    "OPTIONS of a query, absolute": taken(
        b"OPTIONS http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS /?q", fields=("host: b",)
    ),
    "Max-Forwards 0 of GET is the backend's": taken(
        get("/", "a", "Max-Forwards: 0"), "GET /", fields=("max-forwards: 0",)
    ),
    "Max-Forwards 0 of OPTIONS of the server": Stream(
        ONE + b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", (200, 200), ("GET /1",)
    ),
    "Max-Forwards of zeros": Stream(
        ONE + b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 000\r\n\r\n", (200, 200), ("GET /1",)
    ),
    "an expectation in capitals": taken(
        post("Expect: 100-CONTINUE", "Content-Length: 3", body=b"abc"),
        "POST / abc",
        fields=("expect: 100-CONTINUE",),
    ),
    "two expectations": taken(
        post("Expect: 100-continue", "Expect: x", "Content-Length: 3", body=b"abc") + TWO,
        "POST / abc",
        "GET /2",
    ),
    "an expectation obfuscated": taken(
        post("Expect: y 100-continue", "Content-Length: 3", body=b"abc") + TWO, "POST / abc", "GET /2"
    ),
    "an expectation of a GET without a body": taken(
        get("/1", "a", "Expect: 100-continue") + TWO, "GET /1", "GET /2"
    ),
    "an expectation behind a bare LF": refused(
        post("Expect:\n 100-continue", "Content-Length: 3", body=b"abc")
    ),
    "an upgrade that nobody takes, and a request behind it": taken(
        get("/1", "a", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 777") + TWO,
        "GET /1",
        "GET /2",
    ),
    "Connection of empty quotes and options": taken(
        get("/", "a", 'Connection: "", ;, X-A', "X-A: 1"), "GET /", fields=("x-a", "connection")
    ),
    "Connection names a field that Via and others begin like": taken(
        get("/", "a", "Connection: vi, x-forwarded, hos", "Vi: 1", "X-Forwarded: 2"),
        "GET /",
        fields=("vi", "host: a"),
    ),
    "Connection names the framing and close comes in another field": Stream(
        post("Connection: content-length, x-request-id", "Connection: close", "Content-Length: 3", body=b"abc"),
        (200,),
        ("POST / abc",),
        fields=("content-length: 3",),
    ),
    "HTTP/1.0 closes, and nothing behind it is answered": Stream(
        b"GET /1 HTTP/1.0\r\nHost: a\r\n\r\n" + EVIL, (200,), ("GET /1",)
    ),
    "HTTP/1.0 with keep-alive, then HTTP/1.1": taken(
        b"GET /1 HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n" + TWO, "GET /1", "GET /2"
    ),
    "HTTP/1.0 with keep-alive and close": Stream(
        b"GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n" + EVIL, (200,), ("GET /1",)
    ),
    "HTTP/1.0 with Proxy-Connection only": Stream(
        b"GET /1 HTTP/1.0\r\nHost: a\r\nProxy-Connection: keep-alive\r\n\r\n" + EVIL, (200,), ("GET /1",)
    ),
    "HTTP/1.1 with close and keep-alive": Stream(
        get("/1", "a", "Connection: keep-alive", "Connection: close") + EVIL, (200,), ("GET /1",)
    ),
    "HTTP/1.0 with two lengths": refused(
        post("Content-Length: 3", "Content-Length: 4", line="POST / HTTP/1.0", body=b"abcd")
    ),
    "HTTP/0.9 behind a good request": refused(b"GET /evil\r\n"),
    "empty lines between requests": taken(ONE + b"\r\n\r\n\r\n" + TWO, "GET /1", "GET /2"),
    "an empty line of a bare LF between requests": refused(b"\n" + TWO),
    "an empty line of a bare CR between requests": refused(b"\r" + TWO),
    "a NUL between requests": refused(b"\x00" + TWO),
    "an empty line behind a body": taken(
        post("Content-Length: 3", body=b"abc\r\n") + TWO, "POST / abc", "GET /2"
    ),
    "a bare LF behind a body": Stream(
        post("Content-Length: 3", body=b"abc\n") + EVIL, (200, 400), ("POST / abc",)
    ),
    "HTTP/1.0 with a body and no length": Stream(post(line="POST / HTTP/1.0", body=EVIL), (200,), ("POST /",)),
    "two tokens for a Content-Length of a GET": refused(get("/", "a", "Content-Length: 3 3") + b"abc"),
    "twenty requests at once": taken(
        b"".join(get(f"/{n}", "a") for n in range(20)), *(f"GET /{n}" for n in range(20))
    ),
    "a bad request in the middle of many": Stream(
        ONE + TWO + b"GET /3 HTTP/1.1\r\nHost: a b\r\n\r\n" + EVIL * 5, (200, 200, 400), ("GET /1", "GET /2")
    ),
    "a bad body in the middle of many": Stream(ONE + chunked(b"zz\r\n") + EVIL * 5, (200, 400), ("GET /1",)),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("case", STREAMS)
async def test_a_stream_of(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    stream = STREAMS[case]
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        sending = asyncio.create_task(client.send(stream.sent, bytewise=bytewise))
        answers = [(await client.receive()).status for _ in stream.answers]
        if stream.goes_on:
            await sending
            assert (await client.exchange(get("/last", "a"))).status == 200
            assert recording_backend.received.pop().target == "/last"
        else:
            assert await client.is_closed()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert tuple(answers) == stream.answers
    assert tuple(map(told, recording_backend.received)) == stream.reached
    for field in stream.fields:
        name, separator, value = field.partition(": ")
        assert recording_backend.received[-1].get(name) == (value if separator else None)


def told(received: Received) -> str:
    method, target, _ = received.line.split(" ")
    return f"{method} {target} {received.body.decode('latin-1')}".rstrip(" ")
