"""Trailer sections, request ids, and what backends are told of a request's origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.backends import ScriptedBackend, answering_backend, backend_sending
from tests.support.http import RawClient, get, request
from tests.support.worker import Worker, running_worker, traffic
from weldr.model.values import Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
CHUNKED = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
ASKS = get("/", "a", "TE: trailers", "Connection: TE, close")

PLAIN = get("/", "a", "Connection: close")
ONE = CHUNKED + b"X-Sum: 1\r\n\r\n"

TRAILERS: dict[str, tuple[bytes, bytes, bytes]] = {
    "passed on to a client that takes them": (
        CHUNKED + b"X-Sum: 1\r\nX-B:2 \r\n\r\n",
        ASKS,
        b"X-Sum: 1\r\nX-B: 2\r\n",
    ),
    "an empty section": (CHUNKED + b"\r\n", ASKS, b""),
    "dropped for a client that did not ask": (ONE, PLAIN, b""),
    "asked for with a quality and among others": (
        ONE,
        get("/", "a", "te: gzip;q=0.5, Trailers", "Connection: close"),
        b"X-Sum: 1\r\n",
    ),
    "none that Connection names": (
        CHUNKED.replace(b"Trailer:", b"Connection: keep-alive, X-Hop\r\nTrailer:")
        + b"x-hop: 1\r\nX-Sum: 1\r\nX-Hop: 2\r\n\r\n",
        ASKS,
        b"X-Sum: 1\r\n",
    ),
    "none that modifies a request or controls the response": (
        CHUNKED
        + b"If-Match: a\r\nif-none-match: b\r\nIf-Modified-Since: c\r\nIf-Unmodified-Since: d\r\n"
        + b"If-Range: e\r\nRange: bytes=0-1\r\nExpect: 100-continue\r\nMax-Forwards: 0\r\nCookie: f\r\n"
        + b"X-Sum: 1\r\nPragma: no-cache\r\nWarning: 199 a b\r\n\r\n",
        ASKS,
        b"X-Sum: 1\r\n",
    ),
    "none that frames, routes, authenticates or says what the content is": (
        CHUNKED
        + b"Content-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: b\r\nConnection: x\r\nTrailer: y\r\n"
        + b"Set-Cookie: a=b\r\nAuthorization: c\r\nContent-Type: d\r\nX-Sum: 1\r\nKeep-Alive: e\r\n"
        + b"Age: 1\r\nExpires: f\r\nlocation: /g\r\nRetry-After: 2\r\nVARY: *\r\n\r\n",
        ASKS,
        b"X-Sum: 1\r\n",
    ),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", TRAILERS)
async def test_the_trailers_of_a_response_are(worker: Worker, case: str, bytewise: bool) -> None:
    sent, asked, trailer = TRAILERS[case]
    async with backend_sending(sent, bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(asked)
            head, _, body = (await client.receive_rest()).partition(b"\r\n\r\n")
        assert body.replace(b"1\r\no\r\n1\r\nk\r\n", b"2\r\nok\r\n") == b"2\r\nok\r\n0\r\n" + trailer + b"\r\n"
        assert (b"\r\nTrailer: X-Sum" in head) is (
            asked != TRAILERS["dropped for a client that did not ask"][1]
        )
        te = backend.received[0].get("te")
        assert te == ("trailers" if b"railers" in asked else None)


async def test_trailers_are_for_the_request_that_asked(worker: Worker) -> None:
    async with answering_backend(ONE) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get("/", "a", "TE: trailers") + PLAIN)
            data = await client.receive_rest()
    assert data.count(b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\nHTTP/1.1 200 OK\r\n") == 1
    assert data.endswith(b"2\r\nok\r\n0\r\n\r\n")
    assert [received.get("te") for received in backend.received] == ["trailers", None]


async def test_an_http_1_0_client_gets_no_trailers(worker: Worker) -> None:
    async with backend_sending(CHUNKED + b"X-Sum: 1\r\n\r\n") as backend:
        await worker.serve(traffic(backend.port))
        answer = await request(worker.port, b"GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n")
        assert (answer.body, answer.closed) == (b"ok", True)
        assert backend.received[0].get("te") is None


@pytest.mark.parametrize("trailer", [b"X : 1", b"X", b"X: a\x00b", b" X: 1", b"X: a\rb", b"X: 1\r\n folded"])
async def test_a_malformed_trailer_makes_the_response_incomplete(worker: Worker, trailer: bytes) -> None:
    async with backend_sending(CHUNKED + trailer + b"\r\n\r\n") as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(ASKS)
            try:
                data = await client.receive_rest()
            except ConnectionResetError:
                return
            assert data.startswith(b"HTTP/1.1 502 ") or not data.endswith(b"0\r\n\r\n")


async def test_a_request_id_is_made_once_for_each_request(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        for _ in range(20):
            await client.exchange(get())
    ids = [received.get("x-request-id") for received in recording_backend.received]
    assert len(set(ids)) == 20
    assert all(each and each.isalnum() and len(each) >= 16 for each in ids)


async def test_a_request_id_that_came_is_passed_on(worker: Worker, recording_backend: ScriptedBackend) -> None:
    recording_backend.received.clear()
    await request(worker.port, get("/", "a", "x-request-id: mine", "Connection: x-request-id"))
    assert recording_backend.received[0].get("x-request-id") == "mine"


CAME = (
    "X-Forwarded-For: 192.0.2.7",
    "X-Forwarded-For: 10.1.1.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example",
    "X-Forwarded-Port: 443",
    "Forwarded: for=192.0.2.7;proto=https",
)

OWN = {"for": "127.0.0.1", "proto": "http", "host": "a", "port": "{port}"}
OWN_ELEMENT = 'for=127.0.0.1;host="a";proto=http'

ORIGINS: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "overwritten": ({}, OWN),
    "overwritten where others are trusted": ({"trusted_proxies": ["10.0.0.0/8", "::/0"]}, OWN),
    "appended to where the peer is trusted": (
        {"trusted_proxies": ["10.0.0.0/8", "127.0.0.0/8"]},
        {"for": "192.0.2.7, 10.1.1.1, 127.0.0.1", "proto": "https", "host": "shop.example", "port": "443"},
    ),
    "Forwarded instead": ({"forwarded_fields": "forwarded"}, {"forwarded": OWN_ELEMENT}),
    "Forwarded, appended to": (
        {"forwarded_fields": "forwarded", "trusted_proxies": ["127.0.0.1/32"]},
        {"forwarded": f"for=192.0.2.7;proto=https, {OWN_ELEMENT}"},
    ),
    "both": ({"forwarded_fields": "both"}, {**OWN, "forwarded": OWN_ELEMENT}),
}
FIELDS = {
    "for": "x-forwarded-for",
    "proto": "x-forwarded-proto",
    "host": "x-forwarded-host",
    "port": "x-forwarded-port",
    "forwarded": "forwarded",
}


@pytest.mark.parametrize("case", ORIGINS)
async def test_the_word_of_the_client_on_the_origin_is(
    worker: Worker, recording_backend: ScriptedBackend, case: str
) -> None:
    settings, expected = ORIGINS[case]
    await worker.serve(traffic(recording_backend.port, settings=Settings(**settings)))  # type: ignore[arg-type]
    recording_backend.received.clear()
    await request(worker.port, get("/", "a", *CAME, "Connection: x-forwarded-for, forwarded"))
    [received] = recording_backend.received
    told = {name: value for name, field in FIELDS.items() if (value := received.get(field)) is not None}
    assert told == {name: value.format(port=worker.port) for name, value in expected.items()}


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ('for="192.0.2.7', False),
        ('for=192.0.2.7;by="a\\"', False),
        ('for="[2001:db8::1]:80";by="a\\",\\\\"', True),
        ("for=192.0.2.7:80, for=unknown", True),
    ],
)
async def test_a_quote_that_does_not_end_hides_no_element(
    worker: Worker, recording_backend: ScriptedBackend, came: str, kept: bool
) -> None:
    settings = Settings(forwarded_fields="forwarded", trusted_proxies=["127.0.0.1/32"])
    await worker.serve(traffic(recording_backend.port, settings=settings))
    recording_backend.received.clear()
    await request(worker.port, get("/", "a", f"Forwarded: {came}"))
    [received] = recording_backend.received
    assert received.get("forwarded") == (f"{came}, {OWN_ELEMENT}" if kept else OWN_ELEMENT)


async def test_what_a_trusted_proxy_leaves_empty_is_not_said(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    settings = Settings(forwarded_fields="both", trusted_proxies=["127.0.0.1/32"])
    await worker.serve(traffic(recording_backend.port, settings=settings))
    recording_backend.received.clear()
    await request(worker.port, get("/", "a", *(f"{each.partition(':')[0]}:" for each in CAME[1:])))
    [received] = recording_backend.received
    told = {name: received.get(field) for name, field in FIELDS.items()}
    assert told == {**OWN, "port": str(worker.port), "forwarded": OWN_ELEMENT}


async def test_an_ipv6_client_is_quoted_in_forwarded_and_nowhere_else(tmp_path: Path) -> None:
    async with running_worker(tmp_path / "log", host="::1") as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=Settings(forwarded_fields="both")))
        async with await RawClient.connect(worker.port, "::1") as client:
            await client.exchange(get("/", f"[::1]:{worker.port}"))
    [received] = backend.received
    assert received.get("forwarded") == f'for="[::1]";host="[::1]:{worker.port}";proto=http'
    assert received.get("x-forwarded-for") == "::1"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_socket_for_both_kinds_of_addresses_is_told_of_by_the_client_s_own(
    tmp_path: Path, address: str
) -> None:
    async with running_worker(tmp_path / "log", host="::") as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=Settings(forwarded_fields="both")))
        async with await RawClient.connect(worker.port, address) as client:
            await client.exchange(b"GET / HTTP/1.0\r\n\r\n")
    [received] = backend.received
    host, element = {
        "127.0.0.1": (f"127.0.0.1:{worker.port}", "for=127.0.0.1"),
        "::1": (f"[::1]:{worker.port}", 'for="[::1]"'),
    }[address]
    assert received.get("host") == host
    assert received.get("x-forwarded-for") == address
    assert received.get("forwarded") == f'{element};host="{host}";proto=http'


async def test_an_ipv6_proxy_may_be_trusted(tmp_path: Path) -> None:
    settings = Settings(forwarded_fields="both", trusted_proxies=["::1/128"])
    async with running_worker(tmp_path / "log", host="::1") as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=settings))
        async with await RawClient.connect(worker.port, "::1") as client:
            await client.exchange(
                get("/", "a", 'Forwarded: for="[2001:db8::1]:80"', "X-Forwarded-For: 2001:db8::1")
            )
    [received] = backend.received
    assert received.get("forwarded") == 'for="[2001:db8::1]:80", for="[::1]";host="a";proto=http'
    assert received.get("x-forwarded-for") == "2001:db8::1, ::1"


async def test_a_change_of_trust_is_in_force_on_connections_that_are_open(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    await worker.serve(traffic(recording_backend.port))
    recording_backend.received.clear()
    async with await RawClient.connect(worker.port) as client:
        await client.exchange(get("/", "a", *CAME))
        trusting = Settings(trusted_proxies=["127.0.0.1/32"])
        await worker.serve(traffic(recording_backend.port, settings=trusting))
        await client.exchange(get("/", "a", *CAME))
    told = [received.get("x-forwarded-proto") for received in recording_backend.received]
    assert told == ["http", "https"]
    await worker.serve(traffic(recording_backend.port))
