"""An exception that nobody expected ends the connection that it belongs to: nobody waits, nothing is left over.

The data plane runs in this process, so that a part of it can be made to fail.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support import tries as react
from tests.support.http import IncompleteResponseError, RawClient, get
from tests.support.tries import Reaction, Tries, backends
from tests.support.worker import traffic
from weldr.model.traffic import Traffic, difference
from weldr.model.values import Service, Settings, Timeouts, UpstreamLimits
from weldr.proxy import mirror, outcome
from weldr.proxy.accounts import Accounts
from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context
from weldr.proxy.dispatch import Dispatch
from weldr.proxy.exchange import Exchange
from weldr.proxy.further_tries import FurtherTries
from weldr.proxy.pool import BackendPool


@contextlib.asynccontextmanager
async def data_plane(served: Traffic) -> AsyncIterator[tuple[Context, int]]:
    """Its context, and the port where it listens."""
    loop = asyncio.get_running_loop()
    context = Context(loop, lambda: None)
    context.fleet.apply(difference(Traffic(), served))
    server = await loop.create_server(lambda: ClientConnection(context), "127.0.0.1", 0)
    try:
        yield context, server.sockets[0].getsockname()[1]
    finally:
        context.clients.abort()
        server.close()
        await server.wait_closed()


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, first: bool) -> None:
    """The next call of it fails; `first` before it has done anything."""
    before = getattr(owner, name)
    calls = []

    def failing(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            return before(*arguments, **options)
        if not first:
            before(*arguments, **options)
        raise ZeroDivisionError("as if by a defect")

    monkeypatch.setattr(owner, name, failing)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name", "reaction"),
    [
        (Dispatch, "request_lines", react.ok),
        (Dispatch, "_send", react.ok),
        (FurtherTries, "_note_answer", react.status(500)),
        (FurtherTries, "_goes_on", react.reset),
        (Exchange, "upstream_lost", react.close),
        (Exchange, "upstream_answered", react.ok),
        (Exchange, "_response_head", react.status(500)),
        (Exchange, "_complete", react.status(500)),
        (Exchange, "_answer", react.reset),
        (Accounts, "record", react.status(500)),
        (outcome, "answered", react.status(500)),
        (BackendPool, "leave", react.ok),
    ],
)
async def test_whatever_fails_in_an_exchange_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, reaction: Reaction, first: bool
) -> None:
    async with backends(Tries(reaction), 1) as ports, data_plane(traffic(*ports)) as (context, port):
        fail_once(monkeypatch, owner, name, first=first)
        async with await RawClient.connect(port) as client, asyncio.timeout(30):
            await client.send(get())
            # Whether or not there was an answer before.
            with contextlib.suppress(ConnectionError):
                await client.reader.read()
        assert context.counters.faults == 1
        await eventually(lambda: len(context.clients) == 0)
        async with await RawClient.connect(port) as other:
            assert (await other.exchange(get())).status == 200


async def test_a_request_that_fails_when_it_is_woken_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    policy = Service(limits=UpstreamLimits(backend_connections=1))
    tries = Tries(react.late(gate))
    async with backends(tries, 1) as ports, data_plane(traffic(*ports, policy=policy)) as (context, port):
        async with await RawClient.connect(port) as first, await RawClient.connect(port) as second:
            await first.send(get())
            await tries.until(1)
            await second.send(get())
            await eventually(lambda: context.counters.in_flight == 2)
            fail_once(monkeypatch, Dispatch, "seek", first=True)
            gate.set()
            assert (await first.receive()).status == 200
            async with asyncio.timeout(30):
                with pytest.raises(IncompleteResponseError):
                    await second.receive()
            assert (await first.exchange(get())).status == 200
        assert context.counters.faults == 1
        assert context.counters.in_flight == 0


async def test_one_whose_time_is_over_keeps_no_other_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(timeouts=Timeouts(client_head_s=0.05))
    async with data_plane(traffic(settings=settings)) as (context, port):
        clients = [await RawClient.connect(port) for _ in range(3)]
        await eventually(lambda: len(context.clients) == 3)
        await asyncio.sleep(0.1)
        fail_once(monkeypatch, ClientConnection, "expire", first=True)
        context.tick()
        assert context.counters.faults == 1
        for client in clients:
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    await client.reader.read()
            client.writer.transport.abort()


async def test_a_mirror_that_fails_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    async with backends(Tries(), 1) as ports, data_plane(traffic(*ports)) as (context, _):
        for first in (True, False):
            with monkeypatch.context() as patch:
                fail_once(patch, mirror.Mirror, "upstream_received", first=first)
                mirror.mirror(context, "default", b"GET", get())
                await eventually(lambda: context.mirrored == 0)
        assert context.counters.faults == 2
