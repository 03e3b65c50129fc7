"""What a route does beside sending a request to a service, through a real worker."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import tries as react
from tests.support.backends import (
    BackendConnection,
    ScriptedBackend,
    answering_backend,
    response,
    scripted_backend,
)
from tests.support.http import RawClient, get, request
from tests.support.tries import Tries, backends
from tests.support.worker import Worker, traffic
from weldr.model.resilience import Retries
from weldr.model.routes import FieldEdits, FixedResponse, Mirror, RateLimit, Redirect, Route, SplitBy
from weldr.model.timeouts import UpstreamTimeouts
from weldr.model.values import Backend, Settings


def backend_of(backend: ScriptedBackend) -> dict[str, Backend]:
    return {"b1": Backend(host="127.0.0.1", port=backend.port)}


async def serve(worker: Worker, backend: ScriptedBackend, route: Route, **others: ScriptedBackend) -> None:
    services = {name: backend_of(other) for name, other in others.items()}
    await worker.serve(traffic(backend.port, services=services, routes={"r": route}))


async def test_prefixes_and_request_fields_are_changed_on_the_way_to_the_backend(worker: Worker) -> None:
    async with answering_backend() as backend:
        edits = FieldEdits(remove=["X-Gone"], set={"X-Set": "1"})
        route = Route(service="default", strip_prefix="/api", add_prefix="/v1", request_headers=edits)
        await serve(worker, backend, route)
        async with await RawClient.connect(worker.port) as client:
            for _ in range(2):
                await client.exchange(get("/api/x?q", "h", "X-Gone: 1", "X-Set: 0", "X-Kept: 1"))
    for received in backend.received:
        assert received.target == "/v1/x?q"
        assert (received.get("x-gone"), received.get("x-set"), received.get("x-kept")) == (None, "1", "1")


async def test_response_fields_are_changed_on_the_way_to_the_client(worker: Worker) -> None:
    async with answering_backend(response(b"ok", "X-Powered-By: x", "X-Kept: 1")) as backend:
        edits = FieldEdits(remove=["X-Powered-By"], add={"X-Frame-Options": "DENY"})
        await serve(worker, backend, Route(service="default", response_headers=edits))
        answer = await request(worker.port, get())
    assert answer.body == b"ok"
    assert answer.get("x-powered-by") is None
    assert (answer.get("x-frame-options"), answer.get("x-kept")) == ("DENY", "1")


async def test_fields_that_clients_are_not_to_see_come_neither_in_interim_responses_nor_in_trailers(
    worker: Worker,
) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(
            b"HTTP/1.1 103 Early Hints\r\nX-Gone: 1\r\nLink: </a>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nX-Gone: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\nX-Gone: 1\r\nX-Set: theirs\r\nX-Kept: 1\r\n\r\n"
        )

    async with scripted_backend(script) as backend:
        edits = FieldEdits(remove=["X-Gone"], set={"X-Set": "1"})
        await serve(worker, backend, Route(service="default", response_headers=edits))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get("/", "h", "TE: trailers", "Connection: TE, close"))
            seen = await client.receive_rest()
    assert b"X-Gone" not in seen
    assert b"theirs" not in seen
    assert b"\r\nLink: </a>\r\n" in seen
    assert b"\r\nX-Set: 1\r\n" in seen
    assert seen.endswith(b"\r\n0\r\nX-Kept: 1\r\n\r\n")


async def test_a_redirect_and_a_fixed_response_need_no_backend(worker: Worker) -> None:
    routes = {
        "https": Route(host="a", redirect=Redirect(scheme="https", status=308)),
        "fixed": Route(host="b", response=FixedResponse(status=410, body="gone\n", content_type="text/html")),
        "empty": Route(host="c", response=FixedResponse(status=204)),
    }
    await worker.serve(traffic(routes=routes))
    async with await RawClient.connect(worker.port) as client:
        redirected = await client.exchange(get("/x?y", "a:8080"))
        assert (redirected.status, redirected.get("location")) == (308, "https://a/x?y")
        assert redirected.proxy_status == "weldr"
        fixed = await client.exchange(get("/", "b"))
        assert (fixed.status, fixed.body, fixed.get("content-type")) == (410, b"gone\n", "text/html")
        assert (await client.exchange(b"HEAD / HTTP/1.1\r\nHost: b\r\n\r\n")).status == 410
        assert (await client.exchange(get("/", "c"))).status == 204
        assert (await client.exchange(get("/", "b"))).body == b"gone\n"


async def test_denied_clients_get_a_403_with_the_reason(worker: Worker) -> None:
    async with answering_backend() as backend:
        await serve(worker, backend, Route(service="default", deny=["127.0.0.0/8"]))
        answer = await request(worker.port, get())
        assert (answer.status, answer.proxy_status) == (403, "weldr; error=http_request_denied")
        assert not backend.received
        await serve(worker, backend, Route(service="default", allow=["127.0.0.0/8"]))
        assert (await request(worker.port, get())).status == 200


async def test_requests_beyond_the_rate_get_a_429_that_says_when_to_come_again(worker: Worker) -> None:
    async with answering_backend() as backend:
        limit = RateLimit(requests_per_s=0.01, burst=2, by="client")
        await serve(worker, backend, Route(service="default", rate_limit=limit))
        answers = [await request(worker.port, get()) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert 90 <= int(answers[2].get("retry-after") or 0) <= 100
    assert len(backend.received) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n01234567890",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"6\r\n012345\r\n5\r\n67890\r\n0\r\n\r\n",
    ],
    ids=["counted", "chunked"],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_a_body_beyond_the_limit_gets_a_413(worker: Worker, data: bytes, bytewise: bool) -> None:
    async with answering_backend() as backend:
        await serve(worker, backend, Route(service="default", max_body_bytes=10))
        assert (await request(worker.port, data, bytewise=bytewise)).status == 413
        await serve(worker, backend, Route(service="default", max_body_bytes=11))
        assert (await request(worker.port, data, bytewise=bytewise)).status == 200
    assert [received.body for received in backend.received] == [b"01234567890"]


async def test_a_routes_timeouts_are_before_the_services(worker: Worker) -> None:
    async def silent(connection: BackendConnection) -> None:
        await connection.head()
        await connection.head()

    async with scripted_backend(silent) as backend:
        await serve(worker, backend, Route(service="default", timeouts=UpstreamTimeouts(response_s=0.2)))
        assert (await request(worker.port, get())).status == 504


@pytest.mark.real_time
async def test_a_routes_retries_are_before_the_services(worker: Worker) -> None:
    tries = Tries(react.status(503), react.status(503), react.ok, react.hang)
    async with backends(tries, 3) as ports:
        routes = {
            "none": Route(host="none", service="default", retries=Retries(attempts=0)),
            "quick": Route(host="quick", service="default", retries=Retries(per_try_s=0.3)),
        }
        await worker.serve(traffic(*ports, routes=routes))
        assert (await request(worker.port, get("/", "none"))).status == 503
        assert (await request(worker.port, get("/", "other"))).status == 200
        assert (await request(worker.port, get("/", "quick"))).status == 200
    assert [received.get("host") for received in tries.received] == ["none", "other", "other", "quick", "quick"]


async def test_weighted_services_share_the_requests(worker: Worker) -> None:
    async with answering_backend() as one, answering_backend() as two:
        await serve(worker, one, Route(services={"default": 1, "two": 1, "off": 0}), two=two)
        async with await RawClient.connect(worker.port) as client:
            for _ in range(60):
                assert (await client.exchange(get())).status == 200
    assert len(one.received) + len(two.received) == 60
    # Fewer than ten of sixty would be chance once in ten million times.
    assert min(len(one.received), len(two.received)) > 10


@pytest.mark.parametrize(
    "data",
    [
        get("/x"),
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
    ],
    ids=["get", "counted", "chunked"],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_a_copy_goes_to_the_mirror(worker: Worker, data: bytes, bytewise: bool) -> None:
    copied = asyncio.Event()

    async def mirror_script(connection: BackendConnection) -> None:
        while received := await connection.request():
            mirror.received.append(received)
            copied.set()
            await connection.send(response(b"mirror"))

    async with answering_backend(response(b"original")) as backend, scripted_backend(mirror_script) as mirror:
        route = Route(service="default", mirror=Mirror(service="shadow"))
        await serve(worker, backend, route, shadow=mirror)
        async with await RawClient.connect(worker.port) as client:
            for _ in range(2):
                copied.clear()
                assert (await client.exchange(data, bytewise=bytewise)).body == b"original"
                await asyncio.wait_for(copied.wait(), 30)
    assert [(each.line, each.body) for each in mirror.received] == [
        (each.line, each.body) for each in backend.received
    ]
    assert len(mirror.connections) == 1


async def test_a_mirror_that_hangs_or_refuses_slows_nobody(worker: Worker) -> None:
    async def silent(connection: BackendConnection) -> None:
        await connection.head()
        await connection.head()

    async with answering_backend() as backend, scripted_backend(silent) as mirror:
        route = Route(service="default", mirror=Mirror(service="shadow"))
        await serve(worker, backend, route, shadow=mirror)
        async with await RawClient.connect(worker.port) as client:
            for _ in range(300):
                assert (await client.exchange(get())).status == 200
        # Those beyond the bound were not sent.
        assert 0 < len(mirror.connections) <= 256
        await mirror.stop_listening()
        assert (await request(worker.port, get())).status == 200


async def test_a_body_too_large_to_be_held_is_not_mirrored(worker: Worker) -> None:
    copied = asyncio.Event()

    async def mirror_script(connection: BackendConnection) -> None:
        while received := await connection.request():
            mirror.received.append(received)
            copied.set()
            await connection.send(response())

    async with answering_backend() as backend, scripted_backend(mirror_script) as mirror:
        await serve(worker, backend, Route(service="default", mirror=Mirror(service="shadow")), shadow=mirror)
        large = b"a" * 100_000
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(large)
        assert (await request(worker.port, head + large)).status == 200
        assert (await request(worker.port, get("/last"))).status == 200
        await asyncio.wait_for(copied.wait(), 30)
    assert [received.target for received in mirror.received] == ["/last"]


@pytest.mark.parametrize(
    "path", ["/admin", "/%61dmin", "//admin", "/x/../admin", "/x/%2e%2e/./admin/", "/admin?q"]
)
async def test_no_other_way_to_write_a_path_leads_around_a_route_that_guards_it(
    worker: Worker, path: str
) -> None:
    async with answering_backend() as backend:
        await serve(worker, backend, Route(path="/admin", service="default", deny=["0.0.0.0/0"]))
        assert (await request(worker.port, get(path))).status == 403
        assert (await request(worker.port, get("/x/%2e%2e/%61//b"))).status == 200
    # What no route rewrites is forwarded as it came.
    assert [received.target for received in backend.received] == ["/x/%2e%2e/%61//b"]


@pytest.mark.parametrize("path", ["/admin//../secret", "/admin/%2E//x/../..", "/admin//..?q"])
async def test_a_path_that_only_some_backends_take_for_a_guarded_one_is_refused(
    worker: Worker, path: str
) -> None:
    """By RFC 3986, section 5.2.4, these are below `/admin`; where empty segments are merged first, not."""
    async with answering_backend() as backend:
        await serve(worker, backend, Route(path="/admin", service="default", deny=["0.0.0.0/0"]))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(get(path))
            assert (answer.status, b"empty segment" in answer.body) == (400, True)
            assert (await client.exchange(get("/x//y/../z"))).status == 200
    assert [received.target for received in backend.received] == ["/x//y/../z"]


async def test_the_client_of_a_trusted_proxy_is_whom_it_names(worker: Worker) -> None:
    async with answering_backend() as backend:
        route = Route(service="default", allow=["198.51.100.0/24"])
        for trusted, status in (["127.0.0.0/8"], 200), ([], 403):
            await worker.serve(
                traffic(backend.port, routes={"r": route}, settings=Settings(trusted_proxies=trusted))
            )
            answer = await request(worker.port, get("/", "h", "X-Forwarded-For: 203.0.113.1, 198.51.100.7"))
            assert answer.status == status


async def test_a_client_gets_a_cookie_that_keeps_it_with_one_of_several_services(worker: Worker) -> None:
    async with answering_backend(response(b"a")) as one, answering_backend(response(b"b")) as two:
        services = {"a": backend_of(one), "b": backend_of(two)}
        split = SplitBy(cookie="side", set_cookie=True)
        route = Route(services={"a": 1, "b": 1}, split_by=split)
        await worker.serve(traffic(services=services, routes={"r": route}))
        seen = set()
        async with await RawClient.connect(worker.port) as client:
            for _ in range(20):
                first = await client.exchange(get())
                cookie = (first.get("set-cookie") or "").partition(";")[0]
                assert cookie.startswith("side=")
                again = await client.exchange(get("/", "h", f"Cookie: {cookie}"))
                assert (again.body, again.get("set-cookie")) == (first.body, None)
                seen.add(first.body)
        assert seen == {b"a", b"b"}
