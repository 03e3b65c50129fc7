"""Balancing by a real worker: sticky cookies, hashes, least requests, latency, zones, weights."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.support.backends import (
    BackendConnection,
    ScriptedBackend,
    answering_backend,
    response,
    scripted_backend,
)
from tests.support.http import RawClient, Response, get, request
from tests.support.worker import Worker, running_worker, traffic
from weldr.model.balancing import Balance, HashBy, Sticky
from weldr.model.health import Standing
from weldr.model.traffic import Traffic
from weldr.model.values import Backend, Service, Settings

KEY = b"k" * 32


@contextlib.asynccontextmanager
async def named_backends(*names: str, fields: tuple[str, ...] = ()) -> AsyncIterator[list[ScriptedBackend]]:
    """Backends that answer with their names."""
    async with contextlib.AsyncExitStack() as stack:
        answers = [response(name.encode(), *fields) for name in names]
        yield [await stack.enter_async_context(answering_backend(answer)) for answer in answers]


def served(balance: Balance, **backends: ScriptedBackend | Backend) -> Traffic:
    members = {
        name: each if isinstance(each, Backend) else Backend(host="127.0.0.1", port=each.port)
        for name, each in backends.items()
    }
    catalog = traffic(*members.values(), policy=Service(balance=balance))
    service = msgspec.structs.replace(catalog.services["default"], backends=members)
    return Traffic(services={"default": service}, sticky_key=KEY, settings=Settings())


async def ask(worker: Worker, *fields: str, path: str = "/") -> Response:
    return await request(worker.port, get(path, "test", *fields))


def given(answer: Response) -> str | None:
    """The Cookie line that a browser sends from now on; `None` if it was given none."""
    line = answer.get("set-cookie")
    return None if line is None else "Cookie: " + line.partition(";")[0]


# Sticky cookies.


async def test_a_client_is_brought_back_whoever_comes_and_goes(worker: Worker) -> None:
    sticky = Balance(sticky=Sticky(drain_s=0))
    async with named_backends("a", "b", "c") as (a, b, c):
        await worker.serve(served(sticky, a=a, b=b))
        first = await ask(worker)
        line = first.get("set-cookie")
        assert line is not None
        assert line.endswith("; Path=/; HttpOnly; SameSite=Lax")
        cookie, own = given(first), first.body
        assert cookie is not None
        for backends in (
            {"a": a, "b": b},
            {"a": a, "b": b, "c": c},
            {own.decode(): a if own == b"a" else b, "c": c},
        ):
            await worker.serve(served(sticky, **backends))
            for _ in range(4):
                again = await ask(worker, cookie)
                assert again.body == own
                assert given(again) is None


async def test_clients_without_a_cookie_are_spread_and_each_gets_its_own(worker: Worker) -> None:
    async with named_backends("a", "b") as (a, b):
        await worker.serve(served(Balance(sticky=Sticky(cookie="own")), a=a, b=b))
        answers = [await ask(worker) for _ in range(10)]
        assert Counter(answer.body for answer in answers) == {b"a": 5, b"b": 5}
        assert len({given(answer) for answer in answers}) == 2
        forged = [await ask(worker, "Cookie: own=a; own=AAAAAAAAAAAAAAAAAAAAAAAA") for _ in range(2)]
        assert all(given(answer) in {given(each) for each in answers} for answer in forged)


async def test_a_client_whose_backend_is_gone_or_unhealthy_gets_another_one(worker: Worker) -> None:
    sticky = Balance(sticky=Sticky(drain_s=0))
    async with named_backends("a", "b", "c") as (a, b, c):
        await worker.serve(served(sticky, a=a))
        cookie = given(await ask(worker))
        assert cookie is not None
        await worker.serve(served(sticky, a=a, b=b, c=c))
        worker.stand({("default", "a", "127.0.0.1", a.port): Standing.DOWN})
        while (answer := await ask(worker, cookie)).body == b"a":
            pass
        moved = given(answer)
        assert moved not in (None, cookie)
        assert (await ask(worker, moved or "")).body == answer.body
        worker.stand({("default", "a", "127.0.0.1", a.port): Standing.UP})
        while (await ask(worker, cookie)).body != b"a":
            pass
        await worker.serve(served(sticky, b=b, c=c))
        assert given(await ask(worker, cookie)) is not None


async def test_a_client_whose_backend_takes_no_connection_is_bound_to_the_one_that_answered(
    worker: Worker,
) -> None:
    sticky = Balance(sticky=Sticky())
    async with named_backends("a", "b") as (a, b):
        await worker.serve(served(sticky, a=a))
        cookie = given(await ask(worker))
        await a.stop_listening()
        await worker.serve(served(sticky, a=Backend(host="127.0.0.1", port=1), b=b))
        answer = await ask(worker, cookie or "")
        assert answer.body == b"b"
        assert given(answer) not in (None, cookie)


@pytest.mark.real_time
async def test_a_draining_backend_has_its_sticky_clients_until_the_limit(worker: Worker) -> None:
    sticky = Balance(sticky=Sticky(drain_s=1.0))
    async with named_backends("a", "b") as (a, b):
        await worker.serve(served(sticky, a=a))
        cookie = given(await ask(worker))
        assert cookie is not None
        draining = Backend(host="127.0.0.1", port=a.port, drain=True)
        # Before the worker is told: its clock may start before it says that it has heard.
        started_s = asyncio.get_running_loop().time()
        await worker.serve(served(sticky, a=draining, b=b))
        answer = await ask(worker, cookie)
        assert (answer.body, given(answer)) == (b"a", None)
        assert {(await ask(worker)).body for _ in range(5)} == {b"b"}
        while (answer := await ask(worker, cookie)).body == b"a":
            pass
        # The worker's clock counts in milliseconds, and stands still while it handles what has come.
        assert asyncio.get_running_loop().time() - started_s >= 0.9
        assert given(answer) not in (None, cookie)


async def test_a_draining_backends_requests_are_told_also_when_they_are_sticky(worker: Worker) -> None:
    sticky = Balance(sticky=Sticky(drain_s=60))
    go_on = asyncio.Event()
    arrived: asyncio.Queue[None] = asyncio.Queue()

    async def slow(connection: BackendConnection) -> None:
        while await connection.request() is not None:
            arrived.put_nowait(None)
            await go_on.wait()
            await connection.send(response(b"a"))

    async with scripted_backend(slow) as a, named_backends("b") as (b,):
        go_on.set()
        await worker.serve(served(sticky, a=a))
        cookie = given(await ask(worker))
        await arrived.get()
        await worker.serve(served(sticky, a=Backend(host="127.0.0.1", port=a.port, drain=True), b=b))
        go_on.clear()
        asking = asyncio.create_task(ask(worker, cookie or ""))
        await arrived.get()
        applied = await worker.serve(
            served(sticky, a=Backend(host="127.0.0.1", port=a.port, drain=True, weight=2), b=b)
        )
        assert applied.in_flight == [("default", "a", 1)]
        go_on.set()
        assert (await asking).body == b"a"
        await worker.wait_for(lambda: worker.in_flight and worker.in_flight[-1] == [])


async def test_a_cookie_comes_with_every_kind_of_response_and_beside_the_backends_own(worker: Worker) -> None:
    sticky = Balance(sticky=Sticky(cookie="own"))
    chunked = b"HTTP/1.1 200 OK\r\nSet-Cookie: its=1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    date = "Date: Tue, 24 Nov 2026 14:00:00 GMT"
    plain = response(b"a", "Set-Cookie: its=1", date)
    for data in (chunked, plain):
        async with answering_backend(data) as backend:
            await worker.serve(served(sticky, a=backend))
            answer = await ask(worker)
            assert answer.body == b"a"
            cookies = [value.partition("=")[0] for name, value in answer.fields if name == "set-cookie"]
            assert cookies == ["its", "own"]


async def test_without_a_key_there_are_no_cookies_yet_and_requests_are_answered(worker: Worker) -> None:
    async with named_backends("a") as (a,):
        catalog = served(Balance(sticky=Sticky()), a=a)
        await worker.serve(msgspec.structs.replace(catalog, sticky_key=b""))
        answer = await ask(worker)
        assert (answer.status, given(answer)) == (200, None)
        await worker.serve(catalog)
        assert given(await ask(worker)) is not None


# Policies.


async def test_requests_with_one_key_go_to_one_backend_and_only_that_ones_keys_move(worker: Worker) -> None:
    balance = Balance(policy="consistent_hash", hash_by=HashBy(header="X-User"))
    users = [f"X-User: u{number}" for number in range(40)]
    async with named_backends("a", "b", "c", "d") as each:
        backends = dict(zip("abcd", each, strict=True))

        async def homes() -> list[bytes]:
            async with await RawClient.connect(worker.port) as client:
                return [(await client.exchange(get("/", "test", user))).body for user in users]

        await worker.serve(served(balance, **backends))
        before = await homes()
        assert len(set(before)) == 4
        assert await homes() == before
        del backends["c"]
        await worker.serve(served(balance, **backends))
        after = await homes()
        assert b"c" not in after
        assert all(old in (b"c", new) for old, new in zip(before, after, strict=True))


async def test_two_workers_send_a_key_to_the_same_backend(worker: Worker, tmp_path: Path) -> None:
    balance = Balance(policy="consistent_hash", hash_by=HashBy(path=True))
    async with named_backends("a", "b", "c") as (a, b, c), running_worker(tmp_path / "other") as other:
        await worker.serve(served(balance, a=a, b=b))
        await worker.serve(served(balance, a=a, b=b, c=c))
        await other.serve(served(balance, c=c, b=b, a=a))
        for number in range(30):
            path = f"/{number}"
            assert (await ask(worker, path=path)).body == (await ask(other, path=f"{path}?x")).body


async def test_least_requests_spares_a_backend_that_stalls(worker: Worker) -> None:
    stalled: asyncio.Queue[None] = asyncio.Queue()

    async def stalling(connection: BackendConnection) -> None:
        await connection.request()
        stalled.put_nowait(None)
        await asyncio.Event().wait()

    async with scripted_backend(stalling) as a, named_backends("b", "c") as (b, c):
        balance = Balance(policy="least_requests")
        await worker.serve(served(balance, a=a))
        tasks = [asyncio.create_task(ask(worker))]
        await stalled.get()
        await worker.serve(served(balance, a=a, b=b, c=c))
        held = 0
        for _ in range(90):
            answer, stall = asyncio.create_task(ask(worker)), asyncio.create_task(stalled.get())
            await asyncio.wait([answer, stall], return_when=asyncio.FIRST_COMPLETED)
            held += stall.done()
            stall.cancel()
            tasks.append(answer)
        # Only when it is drawn twice: 10 of 90, and above 22 once in 30,000 cases. By turns it would be 30.
        assert held <= 22
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.real_time
async def test_peak_ewma_learns_who_is_slow(worker: Worker) -> None:
    async def slow(connection: BackendConnection) -> None:
        while await connection.request() is not None:
            await asyncio.sleep(0.2)
            await connection.send(response(b"slow"))

    async with scripted_backend(slow) as a, named_backends("b", "c", "d") as (b, c, d):
        await worker.serve(served(Balance(policy="peak_ewma"), a=a, b=b, c=c, d=d))
        async with await RawClient.connect(worker.port) as client:
            counts = Counter([(await client.exchange(get())).body for _ in range(160)])
        # Once to learn; then only when it is drawn twice, for 1 in 16. By turns it would be 40.
        assert counts[b"slow"] <= 24
        assert counts[b"b"] > 20


async def test_the_own_zone_is_preferred(tmp_path: Path) -> None:
    async with named_backends("a", "b") as (a, b), running_worker(tmp_path / "log", zone="here") as worker:
        here = Backend(host="127.0.0.1", port=a.port, zone="here")
        there = Backend(host="127.0.0.1", port=b.port, zone="there")
        await worker.serve(served(Balance(), a=here, b=there))
        assert {(await ask(worker)).body for _ in range(6)} == {b"a"}
        await worker.serve(served(Balance(prefer_zone=False), a=here, b=there))
        assert {(await ask(worker)).body for _ in range(6)} == {b"a", b"b"}
        await worker.serve(served(Balance(), b=there))
        assert (await ask(worker)).body == b"b"


async def test_weights_are_in_force_with_the_update_also_on_open_connections(worker: Worker) -> None:
    async with named_backends("a", "b") as (a, b), await RawClient.connect(worker.port) as client:
        for weights, expected in (((1, 1), 20), ((3, 1), 30), ((1, 3), 10), ((0, 5), 0), ((1, 0), 40)):
            members = {
                name: Backend(host="127.0.0.1", port=each.port, weight=weight)
                for name, each, weight in zip("ab", (a, b), weights, strict=True)
            }
            await worker.serve(served(Balance(), **members))
            counts = Counter([(await client.exchange(get())).body for _ in range(40)])
            assert abs(counts[b"a"] - expected) <= 1
