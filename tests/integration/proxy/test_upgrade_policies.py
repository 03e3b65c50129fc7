"""Upgrades under the policies of their service and route: what is meant for requests does not harm a tunnel."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import tries as react
from tests.support.backends import BackendConnection, response, scripted_backend
from tests.support.http import RawClient, get, request
from tests.support.tries import Tries, backends
from tests.support.worker import Worker, traffic
from weldr.model.balancing import Balance, Sticky
from weldr.model.resilience import AdaptiveConcurrency, CircuitBreaker, Deadline, Hedging, Retries
from weldr.model.routes import FieldEdits, Mirror, RateLimit, Route
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, Service, UpstreamLimits, UpstreamTimeouts

UPGRADE = get("/ws", "a", "Connection: Upgrade", "Upgrade: x")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-Inner: 1\r\n\r\n"


async def switch(connection: BackendConnection) -> None:
    """Switch, and send back what comes."""
    await connection.send(SWITCH)
    while data := await connection.reader.read(100):
        await connection.send(data)
    connection.close()


async def echoes(client: RawClient, data: bytes = b"hello") -> bool:
    await client.send(data)
    return await client.reader.readexactly(len(data)) == data


def patient(adaptive: int | None = None, in_flight: int | None = None) -> Service:
    """A service whose requests wait."""
    return Service(
        adaptive_concurrency=None
        if adaptive is None
        else AdaptiveConcurrency(initial=adaptive, minimum=adaptive, maximum=adaptive),
        limits=UpstreamLimits(requests_in_flight=in_flight),
        timeouts=UpstreamTimeouts(connect_s=60.0),
    )


@pytest.mark.real_time
async def test_an_upgrade_is_retried_and_its_tunnel_outlasts_all_limits_of_time(worker: Worker) -> None:
    tries = Tries(react.status(503), switch, react.hang, react.hang)
    copies = Tries()
    async with backends(tries, 2) as ports, backends(copies, 1) as (copy_port,):
        policy = Service(
            balance=Balance(sticky=Sticky(cookie="bound")),
            deadline=Deadline(total_s=1.0),
            hedging=Hedging(minimum_s=0.01),
            circuit_breaker=CircuitBreaker(),
            adaptive_concurrency=AdaptiveConcurrency(),
            limits=UpstreamLimits(requests_in_flight=10),
        )
        members = {f"b{port}": Backend(host="127.0.0.1", port=port) for port in ports}
        route = Route(
            service="inner",
            path="/ws",
            strip_prefix="/ws",
            request_headers=FieldEdits(set={"X-Route": "ws"}),
            response_headers=FieldEdits(set={"X-Seen": "yes"}, remove=["X-Inner"]),
            timeouts=UpstreamTimeouts(response_s=0.5, read_s=0.5),
            retries=Retries(attempts=1, per_try_s=0.6),
            rate_limit=RateLimit(requests_per_s=100),
            max_body_bytes=10,
            mirror=Mirror(service="copy"),
        )
        await worker.serve(
            Traffic(
                services={
                    "inner": ServiceTraffic(policy, members),
                    "copy": ServiceTraffic(backends={"c": Backend(host="127.0.0.1", port=copy_port)}),
                },
                routes={"ws": route},
                sticky_key=b"k" * 32,
            )
        )
        async with await RawClient.connect(worker.port) as client:
            answer = await client.exchange(UPGRADE)
            assert (answer.status, answer.get("x-seen"), answer.get("x-inner")) == (101, "yes", None)
            assert (answer.get("set-cookie") or "").startswith("bound=")
            assert len(set(tries.ports)) == 2
            assert [each.target for each in tries.received] == ["/", "/"]
            assert {each.get("x-route") for each in tries.received} == {"ws"}
            assert await echoes(client, b"more than ten bytes are no body here")
            # When a request that came later has used up its time, the tunnel has outlasted all of these limits.
            assert (await request(worker.port, get("/ws", "a"))).status == 504
            assert await echoes(client)
        await worker.wait_for(lambda: copies.received)
    # Only the ordinary request was copied.
    assert [each.get("upgrade") for each in copies.received] == [None]


async def test_a_tunnel_takes_a_place_among_the_requests_in_flight(worker: Worker) -> None:
    tries = Tries(switch)
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=patient(in_flight=1)))
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(UPGRADE)).status == 101
            waiting = asyncio.create_task(request(worker.port, get()))
            await worker.wait_for(lambda: worker.incidents("default").queued)
            assert len(tries.received) == 1
            client.writer.write_eof()
            assert (await waiting).status == 200


async def test_a_tunnel_takes_no_place_in_the_adaptive_limit(worker: Worker) -> None:
    """It lasts for hours, and would keep out all requests from whose latency the limit is learnt."""
    begin, end = asyncio.Event(), asyncio.Event()

    async def switch_late(connection: BackendConnection) -> None:
        await begin.wait()
        await switch(connection)

    tries = Tries(switch_late, react.ok, react.ok, react.late(end), react.late(end))
    async with backends(tries, 1) as ports:
        await worker.serve(traffic(*ports, policy=patient(adaptive=1)))
        async with await RawClient.connect(worker.port) as client:
            upgrading = asyncio.create_task(client.exchange(UPGRADE))
            await tries.until(1)
            waiting = asyncio.create_task(request(worker.port, get()))
            await worker.wait_for(lambda: worker.incidents("default").queued == 1)
            begin.set()
            assert (await upgrading).status == 101
            assert (await waiting).status == 200
            assert (await request(worker.port, get())).status == 200
            assert await echoes(client)
            client.writer.write_eof()
            assert await client.receive_rest() == b""
        # One that has ended leaves no more room than there was.
        both = [asyncio.create_task(request(worker.port, get())) for _ in range(2)]
        await worker.wait_for(lambda: worker.incidents("default").queued == 2)
        end.set()
        assert [answer.status for answer in await asyncio.gather(*both)] == [200, 200]


async def test_upgrades_open_the_circuit_and_a_tunnel_closes_it(worker: Worker) -> None:
    tries = Tries(*[react.status(500)] * 4, switch)
    policy = Service(
        circuit_breaker=CircuitBreaker(minimum_requests=4, open_s=0.5, trials=1), retries=Retries(attempts=0)
    )
    async with backends(tries, 2) as ports:
        await worker.serve(traffic(*ports, policy=policy))
        for _ in range(4):
            assert (await request(worker.port, UPGRADE)).status == 500
        assert (await request(worker.port, UPGRADE)).status == 503

        async with await RawClient.connect(worker.port) as client, asyncio.timeout(30):
            while True:
                answer = await client.exchange(UPGRADE)
                if answer.status == 101:
                    break
                await asyncio.sleep(0.05)
            # It is open still, and yet no trial any more.
            assert (await request(worker.port, get())).status == 200
            assert await echoes(client)


async def test_a_declined_upgrade_under_a_limit_leaves_its_place(worker: Worker) -> None:
    async with scripted_backend(Tries(react.answer(response(b"no", status="426 No"))).script) as backend:
        await worker.serve(traffic(backend.port, policy=patient(adaptive=1, in_flight=1)))
        assert (await request(worker.port, UPGRADE)).status == 426
        assert (await request(worker.port, get())).status == 200
