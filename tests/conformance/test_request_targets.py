"""What a backend gets for the request line and the `Host` of a request that weldr accepts."""

from __future__ import annotations

import pytest

from tests.support.backends import ScriptedBackend, answering_backend, response
from tests.support.forwarded import Forwarded, head
from tests.support.http import request
from tests.support.worker import Worker, traffic
from weldr.model.routes import Route
from weldr.model.values import Backend

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
EVERY_CHARACTER = bytes(range(0x21, 0x7F)).decode().replace("#", "")
"""But the one that begins a fragment."""

FORWARDED: dict[str, Forwarded] = {
    # Targets reach the backend unchanged.
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
}


@BOTH_WAYS
@pytest.mark.parametrize("case", FORWARDED)
async def test_a_request_line_and_host_are_forwarded(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    await FORWARDED[case].play(worker, recording_backend, bytewise=bytewise)


async def test_an_http_1_0_request_without_host_is_for_the_address_it_came_to(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    recording_backend.received.clear()
    assert (await request(worker.port, b"GET / HTTP/1.0\r\n\r\n")).status == 200
    assert recording_backend.received[0].get("host") == f"127.0.0.1:{worker.port}"


ROUTED: dict[str, tuple[bytes, bytes]] = {
    "an absolute target": (head(line="GET http://b.example HTTP/1.1"), b"b"),
    "an absolute target in capitals, with a dot and a port": (
        head(line="GET http://B.Example.:81/ HTTP/1.1"),
        b"b",
    ),
    "an absolute target of OPTIONS": (head(line="OPTIONS http://b.example HTTP/1.1"), b"b"),
    "an absolute target of HTTP/1.0": (head(line="GET http://b.example/ HTTP/1.0", host=None), b"b"),
    "an absolute target beside another Host": (head(line="GET http://a/ HTTP/1.1", host="b.example"), b"ok"),
    "a Host that Connection names": (head("Connection: host", host="b.example"), b"b"),
    "a Host beside X-Forwarded-Host": (head("X-Forwarded-Host: b.example"), b"ok"),
}
"""What the backend of the route to `b.example` answers, and the other."""


@pytest.mark.parametrize("case", ROUTED)
async def test_the_host_decides_of(worker: Worker, recording_backend: ScriptedBackend, case: str) -> None:
    data, body = ROUTED[case]
    async with answering_backend(response(b"b")) as other:
        services = {"b": {"b1": Backend(host="127.0.0.1", port=other.port)}}
        routes = {"b": Route(host="b.example", service="b")}
        await worker.serve(traffic(recording_backend.port, services=services, routes=routes))
        assert (await request(worker.port, data)).body == body
    await worker.serve(traffic(recording_backend.port))


async def test_max_forwards_0_is_answered_by_weldr(worker: Worker, recording_backend: ScriptedBackend) -> None:
    recording_backend.received.clear()
    answer = await request(worker.port, b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert answer.status == 200
    assert "GET" in (answer.get("allow") or "")
    assert recording_backend.received == []
