"""Which fields of a request that weldr accepts a backend gets, and which are for weldr alone."""

from __future__ import annotations

import pytest

from tests.support.backends import ScriptedBackend
from tests.support.forwarded import POST, Forwarded, head
from tests.support.http import get, request
from tests.support.worker import Worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
EVERY_CHARACTER = bytes(range(0x21, 0x7F)).decode()

FORWARDED: dict[str, Forwarded] = {
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
}


@BOTH_WAYS
@pytest.mark.parametrize("case", FORWARDED)
async def test_fields_are_forwarded(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    await FORWARDED[case].play(worker, recording_backend, bytewise=bytewise)


async def test_via_is_appended_and_connection_cannot_remove_it(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    recording_backend.received.clear()
    await request(worker.port, get("/", "a", "Connection: via", "Via: 1.0 first, 1.1 second"))
    assert recording_backend.received[0].get("via") == "1.0 first, 1.1 second, 1.1 weldr"
