"""Updates of the catalog: in force at one instant, and without harm to what they leave alone."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.backends import (
    BackendConnection,
    answering_backend,
    response,
    scripted_backend,
)
from tests.support.http import RawClient, get, request
from tests.support.worker import Worker, traffic
from weldr.model.values import Backend, Route


async def body_of(worker: Worker, path: str = "/", host: str = "test") -> bytes:
    return (await request(worker.port, get(path, host))).body


async def test_nothing_is_accepted_before_the_first_update(worker: Worker) -> None:
    async with answering_backend() as backend, await RawClient.connect(worker.port) as client:
        await client.send(get())
        await worker.wait_for(lambda: len(worker.beats) >= 2)
        assert worker.beats[-1].connections == 0
        await worker.serve(traffic(backend.port))
        assert (await client.receive()).body == b"ok"


async def test_a_backend_that_joins_is_used_and_one_that_leaves_is_not(worker: Worker) -> None:
    async with answering_backend(response(b"1")) as first, answering_backend(response(b"2")) as second:
        one, two = (Backend(host="127.0.0.1", port=each.port) for each in (first, second))
        for members, expected in (
            ({"a": one}, {b"1"}),
            ({"a": one, "b": two}, {b"1", b"2"}),
            ({"b": two}, {b"2"}),
            ({"a": one, "b": Backend(host=two.host, port=two.port, drain=True)}, {b"1"}),
            ({"a": one, "b": Backend(host=two.host, port=two.port, weight=0)}, {b"1"}),
            ({"a": two}, {b"2"}),
        ):
            await worker.serve(traffic(services={"default": members}))
            async with await RawClient.connect(worker.port) as client:
                assert {(await client.exchange(get())).body for _ in range(6)} == expected


async def test_all_backends_change_at_one_instant(worker: Worker) -> None:
    """After the first answer of the new generation, no request that begins later is answered by the old one."""
    async with answering_backend(response(b"old")) as old, answering_backend(response(b"new")) as new:
        await worker.serve(traffic(*[old.port] * 5))
        answers: list[tuple[float, float, bytes]] = []
        stop = asyncio.Event()

        async def load() -> None:
            loop = asyncio.get_running_loop()
            async with await RawClient.connect(worker.port) as client:
                while not stop.is_set():
                    started_s = loop.time()
                    body = (await client.exchange(get())).body
                    answers.append((started_s, loop.time(), body))

        loads = [asyncio.create_task(load()) for _ in range(20)]
        for generation in range(10):
            fresh = b"new" if generation % 2 == 0 else b"old"
            await worker.serve(traffic(*[(new if generation % 2 == 0 else old).port] * 5))
            async with asyncio.timeout(30):
                while sum(body == fresh for *_, body in answers) < 200:  # noqa: ASYNC110 - any of 20 clients
                    await asyncio.sleep(0.005)
            since_s = min(ended for _, ended, body in answers if body == fresh)
            late = [body for started, _, body in answers if started > since_s and body != fresh]
            assert late == []
            answers.clear()
        stop.set()
        await asyncio.gather(*loads)


async def test_a_request_in_flight_to_a_backend_that_leaves_is_finished_and_reported(worker: Worker) -> None:
    gate = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await gate.wait()
            await connection.send(response(b"late"))

    async with scripted_backend(script) as slow, answering_backend() as other:
        leaving = Backend(host="127.0.0.1", port=slow.port)
        staying = {"b2": Backend(host="127.0.0.1", port=other.port)}
        await worker.serve(traffic(leaving))
        waiting = [asyncio.create_task(request(worker.port, get())) for _ in range(2)]
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 2)

        draining = {"b1": Backend(host=leaving.host, port=leaving.port, drain=True)} | staying
        applied = await worker.serve(traffic(services={"default": draining}))
        assert applied.in_flight == [("default", "b1", 2)]
        applied = await worker.serve(traffic(services={"default": staying}))
        assert applied.in_flight == [("default", "b1", 2)]
        assert await body_of(worker) == b"ok"
        assert worker.in_flight == []

        gate.set()
        assert [(await each).body for each in waiting] == [b"late"] * 2
        await worker.wait_for(lambda: worker.in_flight)
        assert worker.in_flight == [[]]


async def test_the_kept_connections_of_a_backend_that_leaves_are_closed_and_others_are_not(
    worker: Worker,
) -> None:
    async with answering_backend() as leaving, answering_backend() as staying:
        await worker.serve(traffic(leaving.port, staying.port))
        await asyncio.gather(*(request(worker.port, get()) for _ in range(2)))
        assert (len(leaving.connections), len(staying.connections)) == (1, 1)
        members = {"b2": Backend(host="127.0.0.1", port=staying.port, weight=7, meta={"a": "b"})}
        await worker.serve(traffic(services={"default": members, "more": members}))
        await asyncio.wait_for(leaving.connections[0].ended.wait(), 30)
        await request(worker.port, get())
        assert len(staying.connections) == 1


async def test_each_request_of_a_connection_is_routed_by_itself(worker: Worker) -> None:
    async with answering_backend(response(b"1")) as first, answering_backend(response(b"2")) as second:
        services = {
            name: {"b": Backend(host="127.0.0.1", port=backend.port)}
            for name, backend in (("one", first), ("two", second))
        }
        routes = {
            "r1": Route(service="one", host="shop.example"),
            "r2": Route(service="two", host="shop.example", path="/cart"),
            "r3": Route(service="two", host="*.example"),
        }
        await worker.serve(traffic(services=services, routes=routes))
        async with await RawClient.connect(worker.port) as client:
            for path, host, body in (
                ("/", "shop.example", b"1"),
                ("/cart", "SHOP.Example.:8080", b"2"),
                ("/cart/x?y", "shop.example:1", b"2"),
                ("/cartoon", "shop.example", b"1"),
                ("/", "other.example", b"2"),
            ):
                assert (await client.exchange(get(path, host))).body == body
            # The absolute target's host counts, not the Host field.
            answer = await client.exchange(b"GET http://shop.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
            assert answer.body == b"1"
            routes["r4"] = Route(service="one", host="other.example")
            await worker.serve(traffic(services=services, routes=routes))
            assert (await client.exchange(get("/", "other.example"))).body == b"1"


async def test_requests_are_spread_by_weight(worker: Worker) -> None:
    async with (
        answering_backend(response(b"1")) as first,
        answering_backend(response(b"2")) as second,
        answering_backend(response(b"3")) as third,
    ):
        weights = {b"1": 1, b"2": 3, b"3": 6}
        members = {
            body.decode(): Backend(host="127.0.0.1", port=backend.port, weight=weights[body])
            for body, backend in ((b"1", first), (b"2", second), (b"3", third))
        }
        await worker.serve(traffic(services={"default": members}))
        async with await RawClient.connect(worker.port) as client:
            counts = Counter([(await client.exchange(get())).body for _ in range(200)])
        assert all(abs(counts[body] - 20 * weight) <= 2 for body, weight in weights.items())


@pytest.mark.real_time
async def test_one_change_among_ten_thousand_backends_is_in_force_soon(worker: Worker) -> None:
    async with answering_backend() as backend:
        services = {
            f"s{number}": {f"b{each}": Backend(host="127.0.0.1", port=1 + each) for each in range(10)}
            for number in range(1000)
        }
        routes = {
            f"r{number}": Route(service=f"s{number}", host=f"h{number}.example") for number in range(1000)
        }
        await worker.serve(traffic(services=services, routes=routes))
        services["s5"] = {"b": Backend(host="127.0.0.1", port=backend.port)}
        loop = asyncio.get_running_loop()
        catalog = traffic(services=services, routes=routes)
        before_s, worker_before_s = loop.time(), worker.cpu_s
        await worker.serve(catalog)
        # Most of this is the test's own comparison of the two catalogs.
        assert loop.time() - before_s < 1.0
        assert worker.cpu_s - worker_before_s < 0.1
        assert await body_of(worker, host="h5.example") == b"ok"
