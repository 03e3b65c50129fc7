"""What a backend gets for a request that weldr accepts, sent in one piece and byte by byte."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.support.backends import Received, ScriptedBackend
from tests.support.http import RawClient, get, request
from tests.support.worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWN = {"via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id"}
BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])


@dataclass(frozen=True)
class Forwarded:
    """A request, and what the backend must have got: the line, the fields but weldr's own, and the body."""

    data: bytes
    line: str
    fields: tuple[str, ...] = ("Host: a",)
    body: bytes = b""


def head(*fields: str, line: str = "GET / HTTP/1.1", host: str | None = "a") -> bytes:
    lines = [line, *([f"Host: {host}"] if host is not None else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


POST = "POST / HTTP/1.1"
EVERY_CHARACTER = bytes(range(0x21, 0x7F)).decode().replace("#", "")
"""But the one that begins a fragment."""
CHUNKED = head("Transfer-Encoding: chunked", line=POST)

FORWARDED: dict[str, Forwarded] = {
    # Targets reach the backend unchanged.
    "a plain request": Forwarded(head(), "GET / HTTP/1.1"),
    "a path with dots, doubled slashes and escapes": Forwarded(
        head(line="GET /a/../b//c/./%2e%2E/%zz HTTP/1.1"), "GET /a/../b//c/./%2e%2E/%zz HTTP/1.1"
    ),
    "a query with anything": Forwarded(
        head(line="GET /?a=b&c=%20+?/:@'\"<>{}|\\^` HTTP/1.1"), "GET /?a=b&c=%20+?/:@'\"<>{}|\\^` HTTP/1.1"
    ),
    "a request line of nearly 8 KiB": Forwarded(
        head(line=f"GET /{'a' * 8000} HTTP/1.1"), f"GET /{'a' * 8000} HTTP/1.1"
    ),
    "a path of two slashes is no authority": Forwarded(head(line="GET //b/c HTTP/1.1"), "GET //b/c HTTP/1.1"),
    "every character that a target may have": Forwarded(
        head(line=f"GET /{EVERY_CHARACTER} HTTP/1.1"), f"GET /{EVERY_CHARACTER} HTTP/1.1"
    ),
    "an escaped NUL and an escaped slash": Forwarded(
        head(line="GET /%00%2f%5C%0d%0A HTTP/1.1"), "GET /%00%2f%5C%0d%0A HTTP/1.1"
    ),
    "an empty query": Forwarded(head(line="GET /? HTTP/1.1"), "GET /? HTTP/1.1"),
    "a target that looks like a version": Forwarded(
        head(line="GET /HTTP/1.1 HTTP/1.1"), "GET /HTTP/1.1 HTTP/1.1"
    ),
    "an empty line before the request": Forwarded(b"\r\n" + head(), "GET / HTTP/1.1"),
    "several empty lines before the request": Forwarded(b"\r\n\r\n\r\n" + head(), "GET / HTTP/1.1"),
    "an absolute target: its host wins": Forwarded(
        head(line="GET http://b.example:81/p?q HTTP/1.1"), "GET /p?q HTTP/1.1", ("Host: b.example:81",)
    ),
    "an absolute target whose host has capitals": Forwarded(
        head(line="GET http://B.Example/ HTTP/1.1"), "GET / HTTP/1.1", ("Host: B.Example",)
    ),
    "an absolute target keeps its path as it is": Forwarded(
        head(line="GET http://b//x/../y/%2F?a=http://c HTTP/1.1"),
        "GET //x/../y/%2F?a=http://c HTTP/1.1",
        ("Host: b",),
    ),
    "an absolute target from HTTP/1.0 without Host": Forwarded(
        head(line="GET http://b/p HTTP/1.0", host=None), "GET /p HTTP/1.1", ("Host: b",)
    ),
    "an absolute target beside a Host that Connection names": Forwarded(
        head("Connection: host", line="GET http://b/ HTTP/1.1"), "GET / HTTP/1.1", ("Host: b",)
    ),
    "an absolute target without a path": Forwarded(
        head(line="GET http://b HTTP/1.1"), "GET / HTTP/1.1", ("Host: b",)
    ),
    "an absolute target with a query and no path": Forwarded(
        head(line="GET HTTP://b?q HTTP/1.1"), "GET /?q HTTP/1.1", ("Host: b",)
    ),
    "an absolute target with an IPv6 address": Forwarded(
        head(line="GET http://[::1]:80/ HTTP/1.1"), "GET / HTTP/1.1", ("Host: [::1]:80",)
    ),
    "OPTIONS of a path": Forwarded(head(line="OPTIONS /a HTTP/1.1"), "OPTIONS /a HTTP/1.1"),
    "OPTIONS of a path, absolute": Forwarded(
        head(line="OPTIONS http://b/ HTTP/1.1"), "OPTIONS / HTTP/1.1", ("Host: b",)
    ),
    "Max-Forwards of OPTIONS of the server": Forwarded(
        head("Max-Forwards: 1", line="OPTIONS * HTTP/1.1"), "OPTIONS * HTTP/1.1", ("Host: a", "Max-Forwards: 0")
    ),
    "Max-Forwards of OPTIONS with zeros before it": Forwarded(
        head("Max-Forwards: 0010", line="OPTIONS / HTTP/1.1"),
        "OPTIONS / HTTP/1.1",
        ("Host: a", "Max-Forwards: 9"),
    ),
    "a Max-Forwards of OPTIONS that is larger than weldr counts": Forwarded(
        head(f"Max-Forwards: {'9' * 40}", line="OPTIONS / HTTP/1.1"),
        "OPTIONS / HTTP/1.1",
        ("Host: a", "Max-Forwards: 999999999"),
    ),
    "Connection cannot remove Max-Forwards": Forwarded(
        head("Max-Forwards: 3", "Connection: max-forwards", line="OPTIONS / HTTP/1.1"),
        "OPTIONS / HTTP/1.1",
        ("Host: a", "Max-Forwards: 2"),
    ),
    "OPTIONS of the server": Forwarded(head(line="OPTIONS * HTTP/1.1"), "OPTIONS * HTTP/1.1"),
    "OPTIONS of the server, absolute": Forwarded(
        head(line="OPTIONS http://b HTTP/1.1"), "OPTIONS * HTTP/1.1", ("Host: b",)
    ),
    "Max-Forwards of OPTIONS counts down": Forwarded(
        head("Max-Forwards: 3", line="OPTIONS / HTTP/1.1"), "OPTIONS / HTTP/1.1", ("Host: a", "Max-Forwards: 2")
    ),
    "Max-Forwards of GET does not": Forwarded(
        head("Max-Forwards: 3"), "GET / HTTP/1.1", ("Host: a", "Max-Forwards: 3")
    ),
    "a method that nobody knows": Forwarded(head(line="M-SEARCH!x / HTTP/1.1"), "M-SEARCH!x / HTTP/1.1"),
    "a method in lower case is another method": Forwarded(head(line="get / HTTP/1.1"), "get / HTTP/1.1"),
    "a method of WebDAV": Forwarded(head(line="PROPFIND / HTTP/1.1"), "PROPFIND / HTTP/1.1"),
    # Host.
    "a Host with a port": Forwarded(head(host="A.Example:80"), "GET / HTTP/1.1", ("Host: A.Example:80",)),
    "a Host with a trailing dot": Forwarded(head(host="a."), "GET / HTTP/1.1", ("Host: a.",)),
    "a Host that is an IPv6 address": Forwarded(
        head(host="[::1]:8080"), "GET / HTTP/1.1", ("Host: [::1]:8080",)
    ),
    "a Host with an empty port": Forwarded(head(host="a:"), "GET / HTTP/1.1", ("Host: a:",)),
    "a Host with the last port": Forwarded(head(host="a:65535"), "GET / HTTP/1.1", ("Host: a:65535",)),
    "a Host with an underscore": Forwarded(head(host="a_b.c"), "GET / HTTP/1.1", ("Host: a_b.c",)),
    "a Host that is an IPv4 address": Forwarded(head(host="127.0.0.1"), "GET / HTTP/1.1", ("Host: 127.0.0.1",)),
    "a Host that is an IPv6 address with an IPv4 one in it": Forwarded(
        head(host="[::ffff:1.2.3.4]"), "GET / HTTP/1.1", ("Host: [::ffff:1.2.3.4]",)
    ),
    "a Host that is not the first field": Forwarded(
        head("X-A: 1", "Host: a", "X-B: 2", host=None), "GET / HTTP/1.1", ("Host: a", "X-A: 1", "X-B: 2")
    ),
    "a Host in small letters": Forwarded(head("host: a", host=None), "GET / HTTP/1.1"),
    "a Host with spaces around": Forwarded(head(host=" \ta\t "), "GET / HTTP/1.1"),
    "an HTTP/1.0 request is forwarded as HTTP/1.1": Forwarded(head(line="GET / HTTP/1.0"), "GET / HTTP/1.1"),
    # Fields.
    "ordinary fields keep their spelling and order": Forwarded(
        head("X-B: 1", "x-a: 2", "X-B: 3"), "GET / HTTP/1.1", ("Host: a", "X-B: 1", "x-a: 2", "X-B: 3")
    ),
    "an empty field": Forwarded(head("X-A:", "X-B: "), "GET / HTTP/1.1", ("Host: a", "X-A: ", "X-B: ")),
    "a value with bytes above ASCII": Forwarded(
        head("X: \xe9\xff"), "GET / HTTP/1.1", ("Host: a", "X: \xe9\xff")
    ),
    "every character that a value may have": Forwarded(
        head(f"X: {EVERY_CHARACTER}"), "GET / HTTP/1.1", ("Host: a", f"X: {EVERY_CHARACTER}")
    ),
    "every character that a name may have": Forwarded(
        head("!#$%&'*+-.^_`|~09azAZ: 1"), "GET / HTTP/1.1", ("Host: a", "!#$%&'*+-.^_`|~09azAZ: 1")
    ),
    "spaces within a value, but none around it": Forwarded(
        head("X: \t a  b \t"), "GET / HTTP/1.1", ("Host: a", "X: a  b")
    ),
    "no space before a value": Forwarded(head("X:1"), "GET / HTTP/1.1", ("Host: a", "X: 1")),
    "Cookie, in two fields": Forwarded(
        head("Cookie: a=1", "Cookie: b=2"), "GET / HTTP/1.1", ("Host: a", "Cookie: a=1", "Cookie: b=2")
    ),
    "Authorization": Forwarded(
        head("Authorization: Basic eDp5"), "GET / HTTP/1.1", ("Host: a", "Authorization: Basic eDp5")
    ),
    "names that begin like those that mean something": Forwarded(
        head("Hosts: 1", "Connection-X: 2", "Content-Lengths: 3", "TEE: 4", "X-Forwarded: 5", "Expected: 6"),
        "GET / HTTP/1.1",
        (
            *("Host: a", "Hosts: 1", "Connection-X: 2", "Content-Lengths: 3", "TEE: 4", "X-Forwarded: 5"),
            "Expected: 6",
        ),
    ),
    "a value that looks like a field": Forwarded(
        head("X: Content-Length: 5"), "GET / HTTP/1.1", ("Host: a", "X: Content-Length: 5")
    ),
    "a value with a tab": Forwarded(head("X: a\tb"), "GET / HTTP/1.1", ("Host: a", "X: a\tb")),
    "a value with colons": Forwarded(head("X:: a: b"), "GET / HTTP/1.1", ("Host: a", "X: : a: b")),
    "99 more fields": Forwarded(
        head(*(f"X{i}: 1" for i in range(99))), "GET / HTTP/1.1", ("Host: a", *(f"X{i}: 1" for i in range(99)))
    ),
    "60 KB of fields": Forwarded(head("X: " + "a" * 60000), "GET / HTTP/1.1", ("Host: a", "X: " + "a" * 60000)),
    # Hop by hop.
    "Connection is not forwarded": Forwarded(head("Connection: keep-alive"), "GET / HTTP/1.1"),
    "what Connection names is removed": Forwarded(
        head("X-A: 1", "x-b: 2", "X-C: 3", "Connection: keep-alive, x-a", "Connection: X-B"),
        "GET / HTTP/1.1",
        ("Host: a", "X-C: 3"),
    ),
    "Connection cannot remove Host": Forwarded(head("Connection: host"), "GET / HTTP/1.1"),
    "Connection cannot remove Content-Length": Forwarded(
        head("Connection: content-length", "Content-Length: 3", line=POST) + b"abc",
        POST,
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "Connection cannot remove Transfer-Encoding": Forwarded(
        head("Connection: transfer-encoding", "Transfer-Encoding: chunked", line=POST)
        + b"3\r\nabc\r\n0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"abc",
    ),
    "Connection may name Cookie and Authorization": Forwarded(
        head("Cookie: a=1", "Authorization: x", "X-A: 1", "Connection: cookie, AUTHORIZATION"),
        "GET / HTTP/1.1",
        ("Host: a", "X-A: 1"),
    ),
    "Connection names with tabs, in capitals, twice": Forwarded(
        head("X-A: 1", "x-a: 2", "Connection:\tX-A\t,\tx-a"), "GET / HTTP/1.1"
    ),
    "Connection names a field before it": Forwarded(
        head("Connection: x-a", "X-A: 1", "X-AB: 2"), "GET / HTTP/1.1", ("Host: a", "X-AB: 2")
    ),
    "Connection names what is not there": Forwarded(head("Connection: x-a"), "GET / HTTP/1.1"),
    "Connection: close is the client's own": Forwarded(head("Connection: close"), "GET / HTTP/1.1"),
    "Connection cannot remove Host, Via, framing and X-Forwarded-For at once": Forwarded(
        head(
            "Connection: close, host, via, content-length, transfer-encoding, x-forwarded-for, x-request-id",
            "Content-Length: 3",
            line=POST,
        )
        + b"abc",
        POST,
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "TE: trailers without Connection": Forwarded(
        head("TE: trailers"), "GET / HTTP/1.1", ("Host: a", "Connection: TE", "TE: trailers")
    ),
    "TE: trailers with a quality is no wish": Forwarded(head("TE: trailers;q=0"), "GET / HTTP/1.1"),
    "TE: trailers from HTTP/1.0": Forwarded(head("TE: trailers", line="GET / HTTP/1.0"), "GET / HTTP/1.1"),
    "Trailer": Forwarded(
        head("Trailer: X", "Transfer-Encoding: chunked", line=POST) + b"0\r\nX: 1\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
    ),
    "Proxy-Authenticate": Forwarded(head("Proxy-Authenticate: Basic"), "GET / HTTP/1.1"),
    "Connection: Upgrade without Upgrade": Forwarded(head("Connection: Upgrade"), "GET / HTTP/1.1"),
    "Upgrade and TE: trailers": Forwarded(
        head("Connection: Upgrade, TE", "Upgrade: websocket", "TE: trailers"),
        "GET / HTTP/1.1",
        ("Host: a", "Connection: Upgrade, TE", "Upgrade: websocket", "TE: trailers"),
    ),
    "Connection with empty options": Forwarded(head("Connection: ,, ,close,"), "GET / HTTP/1.1"),
    "Keep-Alive": Forwarded(head("Keep-Alive: timeout=5"), "GET / HTTP/1.1"),
    "Proxy-Connection": Forwarded(head("Proxy-Connection: keep-alive"), "GET / HTTP/1.1"),
    "Proxy-Authorization": Forwarded(head("Proxy-Authorization: Basic eDp5"), "GET / HTTP/1.1"),
    "TE other than trailers": Forwarded(head("TE: gzip;q=0.5", "Connection: TE"), "GET / HTTP/1.1"),
    "TE: trailers is weldr's own wish then": Forwarded(
        head("TE: gzip, trailers", "Connection: TE"),
        "GET / HTTP/1.1",
        ("Host: a", "Connection: TE", "TE: trailers"),
    ),
    "Upgrade without Connection": Forwarded(head("Upgrade: websocket"), "GET / HTTP/1.1"),
    "Upgrade to h2c": Forwarded(
        head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"), "GET / HTTP/1.1"
    ),
    "HTTP2-Settings that Connection does not name": Forwarded(head("HTTP2-Settings: AAA"), "GET / HTTP/1.1"),
    "Upgrade to h2c with a body": Forwarded(
        head("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 3", line=POST) + b"abc",
        POST,
        ("Host: a", "Content-Length: 3"),
        b"abc",
    ),
    "Upgrade to h2c with a chunked body": Forwarded(
        head("Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked", line=POST)
        + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        POST,
        ("Host: a", "Transfer-Encoding: chunked"),
        b"abcde",
    ),
    "Upgrade to TLS": Forwarded(head("Connection: Upgrade", "Upgrade: TLS/1.0"), "GET / HTTP/1.1"),
    "Upgrade to HTTP/2.0": Forwarded(head("Connection: Upgrade", "Upgrade: HTTP/2.0, h2C"), "GET / HTTP/1.1"),
    "Upgrade to TLS and HTTP without a version": Forwarded(
        head("Connection: Upgrade", "Upgrade: tls, HTTP"), "GET / HTTP/1.1"
    ),
    "Upgrade to HTTP/2 by other names": Forwarded(
        head("Connection: Upgrade", "Upgrade: h2, H2c-14, h2/1"), "GET / HTTP/1.1"
    ),
    "Upgrade to protocols whose names begin like those": Forwarded(
        head("Connection: Upgrade", "Upgrade: HTTPx, tls-x/1"),
        "GET / HTTP/1.1",
        ("Host: a", "Connection: Upgrade", "Upgrade: HTTPx, tls-x/1"),
    ),
    "Upgrade to what is no protocol": Forwarded(
        head("Connection: Upgrade", "Upgrade: we b, a(b), /1, x/, foo/2/3, foo/2, ,"),
        "GET / HTTP/1.1",
        ("Host: a", "Connection: Upgrade", "Upgrade: foo/2"),
    ),
    "Upgrade to several, one of them harmless": Forwarded(
        head("Connection: Upgrade", "Upgrade: h2c, websocket"),
        "GET / HTTP/1.1",
        ("Host: a", "Connection: Upgrade", "Upgrade: websocket"),
    ),
    "Upgrade from HTTP/1.0": Forwarded(
        head("Connection: Upgrade", "Upgrade: websocket", line="GET / HTTP/1.0"), "GET / HTTP/1.1"
    ),
    "Expect from HTTP/1.0": Forwarded(
        head("Expect: 100-continue", "Content-Length: 1", line="POST / HTTP/1.0") + b"a",
        POST,
        ("Host: a", "Content-Length: 1"),
        b"a",
    ),
    # The client's word on who it is.
    "X-Forwarded fields are overwritten": Forwarded(
        head(
            "X-Forwarded-For: 6.6.6.6",
            "x-forwarded-host: evil",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Port: 1",
            "Forwarded: for=6.6.6.6",
        ),
        "GET / HTTP/1.1",
    ),
    "what CGI would take for X-Forwarded fields is dropped": Forwarded(
        head("X_Forwarded_For: 6.6.6.6", "x-forwarded_proto: https", "X_FORWARDED-HOST: evil", "X-A_B: 1"),
        "GET / HTTP/1.1",
        ("Host: a", "X-A_B: 1"),
    ),
    "an empty X-Request-Id is none": Forwarded(head("X-Request-Id:"), "GET / HTTP/1.1"),
    "Connection cannot remove X-Forwarded-For": Forwarded(
        head("Connection: x-forwarded-for, via"), "GET / HTTP/1.1"
    ),
    # Bodies.
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


def own(received: Received) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in received.fields if name.lower() in OWN)


@BOTH_WAYS
@pytest.mark.parametrize("case", FORWARDED)
async def test_a_request_is_forwarded(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    expected = FORWARDED[case]
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        assert (await client.exchange(expected.data, bytewise=bytewise)).status == 200
        first, version = expected.data.lstrip(b"\r\n").partition(b"\r\n")[0], b"HTTP/1.1"
        if first.endswith(version) and b"close" not in expected.data:
            # The next request on the connection begins where this one ended.
            assert (await client.exchange(get("/next"), bytewise=bytewise)).status == 200
            assert recording_backend.received.pop().target == "/next"
            # Nor does it matter whether the request before it was the same.
            for _ in range(2):
                assert (await client.exchange(expected.data, bytewise=bytewise)).status == 200
    for received in recording_backend.received:
        check_forwarded(received, expected, worker.port)


def check_forwarded(received: Received, expected: Forwarded, port: int) -> None:
    assert received.line == expected.line
    fields = [f"{name}: {value}" for name, value in received.fields if name.lower() not in OWN]
    assert sorted(fields) == sorted(expected.fields)
    assert received.body == expected.body
    host = next(field for field in expected.fields if field.startswith("Host: ")).removeprefix("Host: ")
    *rest, (name, request_id) = own(received)
    assert name == "x-request-id"
    assert request_id
    assert rest == [
        ("via", "1.0 weldr" if b"HTTP/1.0\r\n" in expected.data else "1.1 weldr"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", host),
        ("x-forwarded-port", str(port)),
        ("x-forwarded-proto", "http"),
    ]


async def test_an_http_1_0_request_without_host_is_for_the_address_it_came_to(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    recording_backend.received.clear()
    assert (await request(worker.port, b"GET / HTTP/1.0\r\n\r\n")).status == 200
    assert recording_backend.received[0].get("host") == f"127.0.0.1:{worker.port}"


async def test_via_is_appended_and_connection_cannot_remove_it(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    recording_backend.received.clear()
    await request(worker.port, get("/", "a", "Connection: via", "Via: 1.0 first, 1.1 second"))
    assert recording_backend.received[0].get("via") == "1.0 first, 1.1 second, 1.1 weldr"


async def test_max_forwards_0_is_answered_by_weldr(worker: Worker, recording_backend: ScriptedBackend) -> None:
    recording_backend.received.clear()
    answer = await request(worker.port, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert answer.status == 200
    assert "GET" in (answer.get("allow") or "")
    assert recording_backend.received == []


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
