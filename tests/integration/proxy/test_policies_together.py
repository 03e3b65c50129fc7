"""Policies of a service and a route that are in force together, as people write them."""

from __future__ import annotations

import asyncio
import random

from tests.support import tries as react
from tests.support.backends import BackendConnection, response
from tests.support.http import IncompleteResponseError, RawClient, get, request
from tests.support.tries import Reaction, Tries, backends
from tests.support.worker import Worker
from weldr.model.balancing import Balance, Sticky
from weldr.model.health import Ejection
from weldr.model.resilience import AdaptiveConcurrency, CircuitBreaker, Deadline, Hedging, Retries, RetryBudget
from weldr.model.routes import FieldEdits, Mirror, RateLimit, Route, SplitBy
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, Service, UpstreamLimits, UpstreamTimeouts

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


def service(ports: list[int], policy: Service | None = None) -> ServiceTraffic:
    members = {f"b{port}": Backend(host="127.0.0.1", port=port) for port in ports}
    return ServiceTraffic(policy or Service(), members)


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_what_is_retried_is_copied_and_counted_once_and_what_is_too_large_not_at_all(
    worker: Worker,
) -> None:
    tries = Tries(react.status(503), react.ok, react.reset)
    copies = Tries()
    route = Route(
        service="s",
        mirror=Mirror(service="copy"),
        max_body_bytes=5,
        rate_limit=RateLimit(requests_per_s=0.001, burst=3, by_header="X-Key"),
    )
    async with backends(tries, 2) as ports, backends(copies, 1) as copy_ports:
        await worker.serve(Traffic({"s": service(ports), "copy": service(copy_ports)}, {"r": route}))
        assert (await request(worker.port, get("/first"))).status == 200
        assert (await request(worker.port, post(b"12345"))).status == 502
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n"
        assert (await request(worker.port, chunked)).status == 413
        # Each took one of the three, and another key has its own.
        assert (await request(worker.port, get("/refused"))).status == 429
        assert (await request(worker.port, get("/last", "a", "X-Key: other"))).status == 200
        await copies.until(3)
    assert tries.targets == ["/first", "/first", "/", "/last"]
    assert [(each.target, each.body) for each in copies.received] == [
        ("/first", b""),
        ("/", b"12345"),
        ("/last", b""),
    ]


async def test_a_split_a_sticky_service_and_a_route_each_set_their_cookie(worker: Worker) -> None:
    bound = Service(balance=Balance(sticky=Sticky(cookie="backend")))
    route = Route(
        services={"blue": 1, "green": 1},
        split_by=SplitBy(cookie="side", set_cookie=True),
        response_headers=FieldEdits(add={"Set-Cookie": "own=1"}),
    )
    tries = Tries()
    async with backends(tries, 4) as ports:
        services = {"blue": service(ports[:2], bound), "green": service(ports[2:], bound)}
        await worker.serve(Traffic(services, {"r": route}, sticky_key=b"k" * 32))
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(get())
            set_cookies = [value for name, value in answer.fields if name == "set-cookie"]
            cookies = [value.partition(";")[0] for value in set_cookies]
            assert sorted(cookie.partition("=")[0] for cookie in cookies) == ["backend", "own", "side"]
            for _ in range(12):
                await client.exchange(get("/", "a", f"Cookie: {'; '.join(cookies)}"))
    assert len(set(tries.ports)) == 1


async def test_whatever_happens_to_requests_no_place_is_lost(worker: Worker) -> None:
    """Every policy at once, backends that do anything, clients that leave: then all places are free again."""
    drawn = random.Random(4)

    async def slow(connection: BackendConnection) -> None:
        await asyncio.sleep(drawn.random() * 0.05)
        await connection.send(response(b"slow"))

    async def tunnel(connection: BackendConnection) -> None:
        await connection.send(SWITCH)
        await connection.reader.read(1)
        connection.close()

    async def half(connection: BackendConnection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.reset()

    bad = [half, react.status(503), react.reset, react.hang]
    reactions: list[Reaction] = [react.ok, react.ok, slow, slow, slow, tunnel, *bad]
    tries = Tries(*drawn.choices(reactions, k=1_000))
    policy = Service(
        deadline=Deadline(total_s=0.3),
        hedging=Hedging(percentile=50, minimum_s=0.01),
        circuit_breaker=CircuitBreaker(failure_rate=0.35, minimum_requests=20, open_s=0.1, trials=2),
        adaptive_concurrency=AdaptiveConcurrency(initial=8, minimum=4, maximum=12),
        limits=UpstreamLimits(requests_in_flight=10, backend_connections=4, pending_requests=30),
        retries=Retries(attempts=2, per_try_s=0.1, budget=RetryBudget(share=0.5)),
        timeouts=UpstreamTimeouts(connect_s=0.5),
        ejection=Ejection(consecutive_failures=0, minimum_requests=0),
    )
    asked = [
        get("/"),
        get("/"),
        post(b"abc"),
        get("/", "a", "Connection: Upgrade", "Upgrade: x"),
        get("/", "a", "X-Request-Timeout-Ms: 20"),
    ]

    async def client() -> None:
        for _ in range(20):
            async with await RawClient.connect(worker.port) as connection:
                await connection.send(drawn.choice(asked))
                try:
                    async with asyncio.timeout(drawn.choice((0.01, 0.05, 30))):
                        await connection.receive()
                except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, IncompleteResponseError):
                    pass

    async with backends(tries, 3) as ports:
        await worker.serve(Traffic({"default": service(ports, policy)}))
        await asyncio.gather(*(client() for _ in range(16)))
        beats = len(worker.beats)
        await worker.wait_for(lambda: len(worker.beats) > beats + 1 and not worker.beats[-1].in_flight)
        assert (worker.beats[-1].tunnels, worker.beats[-1].backends_used, worker.beats[-1].faults) == (0, 0, 0)
        end = asyncio.Event()
        last = Tries(*[react.late(end)] * 4)
    async with backends(last, 3) as ports:
        # With room for two, two are let in.
        patient = Service(
            limits=UpstreamLimits(requests_in_flight=2), timeouts=UpstreamTimeouts(connect_s=60.0)
        )
        await worker.serve(Traffic({"default": service(ports, patient)}))
        waiting = [asyncio.create_task(request(worker.port, get())) for _ in range(4)]
        await last.until(2)
        end.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200] * 4
