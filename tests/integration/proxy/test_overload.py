"""A service that gets more than it can take: who waits, in which order, how long, and who does not notice."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import tries as react
from tests.support.backends import BackendConnection, Received, answering_backend, response, scripted_backend
from tests.support.http import RawClient, Response, get, request
from tests.support.tries import Tries, backends
from tests.support.worker import Worker, traffic
from weldr.model.resilience import AdaptiveConcurrency, Retries
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, Route, Service, UpstreamLimits, UpstreamTimeouts


class Gated:
    """Answers each request when it is told to, whichever backend it came to."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.present = 0
        self.most_present = 0
        self.arrived = asyncio.Condition()
        self.answers = asyncio.Semaphore(0)

    async def script(self, connection: BackendConnection) -> None:
        while (received := await connection.request()) is not None:
            self.received.append(received)
            async with self.arrived:
                self.present += 1
                self.most_present = max(self.most_present, self.present)
                self.arrived.notify_all()
            await self.answers.acquire()
            self.present -= 1
            await connection.send(response())

    async def until_received(self, count: int) -> None:
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: len(self.received) >= count)


def limited(
    in_flight: int | None = None, pending: int = 1024, wait_s: float = 60.0, connections: int | None = None
) -> Service:
    return Service(
        limits=UpstreamLimits(
            requests_in_flight=in_flight, pending_requests=pending, backend_connections=connections
        ),
        timeouts=UpstreamTimeouts(connect_s=wait_s),
    )


def is_full(answer: Response) -> bool:
    return (answer.status, answer.get("retry-after"), answer.proxy_status) == (
        503,
        "1",
        "weldr; error=connection_limit_reached",
    )


async def ask_one_after_another(
    worker: Worker, count: int, hosts: tuple[str, ...] = ("test",)
) -> list[asyncio.Task[Response]]:
    """So many requests to each host, each sent when the worker has the one before it."""
    asked = []
    for number in range(1, count + 1):
        asked += [asyncio.create_task(request(worker.port, get(f"/{number}", host))) for host in hosts]
        sent = len(asked)
        await worker.wait_for(lambda n=sent: worker.beats and worker.beats[-1].in_flight == n)
    return asked


async def test_no_more_requests_than_may_be_are_in_flight_at_all_backends_together(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as first, scripted_backend(gated.script) as second:
        await worker.serve(traffic(first.port, second.port, policy=limited(3)))
        asked = [asyncio.create_task(request(worker.port, get())) for _ in range(12)]
        await gated.until_received(3)
        for _ in asked:
            gated.answers.release()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 12
    assert gated.most_present == 3


async def test_requests_that_wait_go_in_the_order_in_which_they_came(worker: Worker) -> None:
    policies = {
        "requests": limited(in_flight=1),
        "connections": limited(connections=1),
        "both": limited(in_flight=1, connections=1),
    }
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        here = {"b": Backend(host="127.0.0.1", port=backend.port)}
        services = {name: ServiceTraffic(policy=policy, backends=here) for name, policy in policies.items()}
        routes = {name: Route(service=name, host=name) for name in policies}
        await worker.serve(Traffic(services=services, routes=routes))
        asked = await ask_one_after_another(worker, 5, tuple(policies))
        # A change of the table has all of them try again: they keep their order.
        other = ServiceTraffic(backends={"b": Backend(host="::1", port=1)})
        await worker.serve(Traffic(services={**services, "other": other}, routes=routes))
        for _ in asked:
            gated.answers.release()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 15
    for name in policies:
        came = [received.target for received in gated.received if received.get("host") == name]
        assert came == ["/1", "/2", "/3", "/4", "/5"], name


async def test_nobody_overtakes_those_that_wait(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        await worker.serve(traffic(backend.port, policy=limited(in_flight=1)))
        asked = await ask_one_after_another(worker, 3)
        async with await RawClient.connect(worker.port) as eager:
            for number in range(3):
                gated.answers.release()
                await eager.send(get("/eager"))
                await asked[number]
            gated.answers.release()
            gated.answers.release()
            assert (await eager.receive()).status == 200
    assert [received.target for received in gated.received][:3] == ["/1", "/2", "/3"]


async def test_a_request_that_waits_too_long_is_told_when_to_come_back(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        await worker.serve(traffic(backend.port, policy=limited(in_flight=1, wait_s=0.5)))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_received(1)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        assert is_full(await request(worker.port, get()))
        assert 0.4 <= loop.time() - began_s < 15
        gated.answers.release()
        assert (await first).status == 200
    assert len(gated.received) == 1


async def test_a_request_that_tries_again_and_again_waits_no_longer_than_others(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        policy = limited(in_flight=1, wait_s=1.0)
        await worker.serve(traffic(backend.port, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_received(1)
        second = asyncio.create_task(request(worker.port, get()))
        for number in range(1, 100):
            if second.done():
                break
            await asyncio.sleep(0.1)
            drained = Backend(host="127.0.0.1", port=1, drain=True, weight=number)
            here = Backend(host="127.0.0.1", port=backend.port)
            await worker.serve(traffic(here, drained, policy=policy))
        assert number < 40
        assert is_full(await second)
        gated.answers.release()
        await first


async def test_a_full_queue_is_answered_at_once(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        await worker.serve(traffic(backend.port, policy=limited(in_flight=1, pending=2, wait_s=60)))
        asked = await ask_one_after_another(worker, 3)
        for _ in range(50):
            assert is_full(await request(worker.port, get()))
        for _ in asked:
            gated.answers.release()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 3


async def test_a_saturated_service_does_not_hold_up_another(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as full, answering_backend() as other:
        await worker.serve(
            traffic(
                full.port,
                services={"other": {"b": Backend(host="127.0.0.1", port=other.port)}},
                routes={"r": Route(service="other", host="other")},
                policy=limited(in_flight=2, pending=50, wait_s=60),
            )
        )
        clients = [await RawClient.connect(worker.port) for _ in range(52)]
        for client in clients:
            await client.send(get())
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 52)
        async with await RawClient.connect(worker.port) as client:
            for _ in range(100):
                assert is_full(await client.exchange(get()))
                assert (await client.exchange(get("/", "other"))).status == 200
        for _ in clients:
            gated.answers.release()
        for client in clients:
            assert (await client.receive()).status == 200
            client.reset()


async def test_room_in_the_service_is_noticed_where_its_backend_takes_no_more(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as leaving, answering_backend() as staying:
        policy = limited(in_flight=1, wait_s=60)
        await worker.serve(traffic(leaving.port, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_received(1)
        second = asyncio.create_task(request(worker.port, get()))
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 2)
        drained = Backend(host="127.0.0.1", port=leaving.port, drain=True)
        await worker.serve(traffic(drained, Backend(host="127.0.0.1", port=staying.port), policy=policy))
        gated.answers.release()
        assert [(await each).status for each in (first, second)] == [200, 200]


async def test_a_request_that_fails_without_a_backend_leaves_its_place(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(1, policy=limited(in_flight=1)))
        for _ in range(3):
            assert (await request(worker.port, get())).status == 502
        await worker.serve(traffic(backend.port, policy=limited(in_flight=1)))
        assert (await request(worker.port, get())).status == 200


async def test_a_retry_keeps_its_place(worker: Worker) -> None:
    tries = Tries(react.status(503))
    async with backends(tries, 2) as ports:
        policy = Service(
            limits=UpstreamLimits(requests_in_flight=1),
            retries=Retries(attempts=1),
            timeouts=UpstreamTimeouts(connect_s=60),
        )
        await worker.serve(traffic(*ports, policy=policy))
        answers = await asyncio.gather(*(request(worker.port, get()) for _ in range(5)))
        assert [answer.status for answer in answers] == [200] * 5


async def test_the_adaptive_limit_holds_requests_back(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        adaptive = AdaptiveConcurrency(initial=2, minimum=2, maximum=2)
        timeouts = UpstreamTimeouts(connect_s=60.0)
        await worker.serve(
            traffic(backend.port, policy=Service(adaptive_concurrency=adaptive, timeouts=timeouts))
        )
        asked = [asyncio.create_task(request(worker.port, get())) for _ in range(8)]
        await gated.until_received(2)
        for _ in asked:
            gated.answers.release()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 8
    assert gated.most_present == 2


@pytest.mark.real_time
async def test_the_adaptive_limit_grows_with_what_the_service_can_take(worker: Worker) -> None:
    present = most_present = 0

    async def script(connection: BackendConnection) -> None:
        nonlocal present, most_present
        while await connection.request():
            present += 1
            most_present = max(most_present, present)
            await asyncio.sleep(0.02)
            present -= 1
            await connection.send(response())

    stop = asyncio.Event()

    async def load() -> None:
        async with await RawClient.connect(worker.port) as client:
            while not stop.is_set():
                assert (await client.exchange(get())).status == 200

    async with scripted_backend(script) as backend:
        adaptive = AdaptiveConcurrency(initial=2, minimum=2)
        timeouts = UpstreamTimeouts(connect_s=60.0)
        await worker.serve(
            traffic(backend.port, policy=Service(adaptive_concurrency=adaptive, timeouts=timeouts))
        )
        loads = [asyncio.create_task(load()) for _ in range(20)]
        async with asyncio.timeout(30):
            while most_present < 5:
                beats = len(worker.beats)
                await worker.wait_for(lambda n=beats: len(worker.beats) > n)
        stop.set()
        await asyncio.gather(*loads)
