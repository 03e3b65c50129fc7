"""Backends that are ejected or on trial, and the requests that they have even so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from tests.support.memory_worker import OK, MemoryWorker
from weldr.model.health import Ejection
from weldr.model.resilience import Retries, RetryBudget
from weldr.model.values import Service
from weldr.proxy import exchange, responding
from weldr.proxy.health import State

REQUEST = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
FAILED = b"HTTP/1.1 500 Failed\r\nContent-Length: 0\r\n\r\n"
OK_AND_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


class World:
    """Two backends, of which the first has so many responses that last, and is then ejected."""

    def __init__(self, loop: MemoryLoop, streams: int) -> None:
        self.worker = MemoryWorker(loop, Service(ejection=Ejection(first_s=4.0, consecutive_failures=1)), 2)
        members = self.worker.context.fleet.table.services["default"].members
        [self.pool] = [pool for pool in members if pool.key[2] == "10.1.0.1"]
        self.streams: list[MemoryTransport] = []
        while len(self.streams) < streams:
            link = self.ask()
            if link.get_extra_info("peername")[0] == "10.1.0.1":
                link.deliver(BEGUN)
                self.streams.append(link)
            else:
                link.deliver(OK % (4, b"good"))
            loop.settle()
        while self.pool.health.state is State.IN:
            link = self.ask()
            at_first = link.get_extra_info("peername")[0] == "10.1.0.1"
            link.deliver(FAILED if at_first else OK % (4, b"good"))
            loop.settle()
        self.worker.pass_time(5)

    def ask(self) -> MemoryTransport:
        """Where a request went."""
        self.worker.client().deliver(REQUEST % b"x")
        self.worker.loop.settle()
        [link] = [link for link in self.worker.links if link.received]
        link.received.clear()
        return link


def test_a_backend_gets_its_trial_beside_responses_that_last(loop: MemoryLoop) -> None:
    world = World(loop, streams=2)
    for _ in range(10):
        world.ask().deliver(OK % (4, b"good"))
        loop.settle()
    world.worker.pass_time(1)
    assert world.pool.health.state is State.IN


def test_what_ends_during_a_trial_makes_room_for_one_more_at_most(loop: MemoryLoop) -> None:
    world = World(loop, streams=5)
    assert [world.ask().get_extra_info("peername")[0] for _ in range(10)].count("10.1.0.1") == 1
    for link in world.streams:
        link.deliver(b"ending")
    loop.settle()
    world.worker.pass_time(0.5)
    assert [world.ask().get_extra_info("peername")[0] for _ in range(10)].count("10.1.0.1") <= 1


def test_a_response_from_before_an_ejection_that_breaks_says_nothing_about_the_trial(
    loop: MemoryLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (exchange, responding):
        monkeypatch.setattr(module, "perf_counter_ns", lambda: int(loop.time() * 1e9))
    world = World(loop, streams=2)
    world.streams[0].deliver_reset()
    loop.settle()
    assert world.pool.health.state is State.TRIAL
    while (link := world.ask()).get_extra_info("peername")[0] != "10.1.0.1":
        link.deliver(OK % (4, b"good"))
        loop.settle()
    link.deliver(BEGUN)
    loop.settle()
    world.streams[1].deliver_reset()
    loop.settle()
    world.worker.pass_time(0.5)
    assert world.pool.health.state is State.IN


def test_a_response_that_breaks_fails_the_trial_that_it_was(
    loop: MemoryLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (exchange, responding):
        monkeypatch.setattr(module, "perf_counter_ns", lambda: int(loop.time() * 1e9))
    world = World(loop, streams=0)
    while (link := world.ask()).get_extra_info("peername")[0] != "10.1.0.1":
        link.deliver(OK % (4, b"good"))
        loop.settle()
    link.deliver(BEGUN)
    link.deliver_reset()
    loop.settle()
    assert world.pool.health.state is State.OUT


def test_a_trial_that_lasts_does_not_keep_its_backend_out_for_as_long(loop: MemoryLoop) -> None:
    world = World(loop, streams=0)
    while not world.pool.in_flight:
        world.worker.client().deliver(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow")
        loop.settle()
    for link in world.worker.links:
        link.received.clear()
    assert world.ask().get_extra_info("peername")[0] == "10.1.0.2"
    world.worker.pass_time(5)
    while (link := world.ask()).get_extra_info("peername")[0] != "10.1.0.1":
        link.deliver(OK % (4, b"good"))
        loop.settle()
    link.deliver(OK % (4, b"good"))
    loop.settle()
    world.worker.pass_time(0.5)
    assert world.pool.health.state is State.IN


class Unreachable:
    """Two backends, of which the first was ejected, and the second cannot be reached any more."""

    def __init__(self, loop: MemoryLoop, policy: Service) -> None:
        self.worker = MemoryWorker(loop, policy, 2)
        self.refusing = {"10.1.0.1"}
        self._connect = loop.connect
        loop.connect = self._refuse_or_connect
        members = self.worker.context.fleet.table.services["default"].members
        [self.ejected] = [pool for pool in members if pool.key[2] == "10.1.0.1"]
        while self.ejected.health.state is State.IN:
            self.ask()
            for link in self.worker.links:
                if link.received:
                    link.received.clear()
                    link.deliver(OK_AND_CLOSE)
            loop.settle()
        self.worker.pass_time(1)
        self.refusing = {"10.1.0.2"}

    async def _refuse_or_connect(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        if host in self.refusing:
            raise ConnectionRefusedError
        return await self._connect(factory, host, port)

    def ask(self) -> MemoryTransport:
        client = self.worker.client()
        client.deliver(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        self.worker.loop.settle()
        return client


def test_an_ejected_backend_is_the_last_resort_and_has_its_trial_if_it_answers(loop: MemoryLoop) -> None:
    world = Unreachable(loop, Service(ejection=Ejection(first_s=100.0, consecutive_failures=1)))
    client = world.ask()
    assert not client.received
    [link] = [link for link in world.worker.links if link.received]
    assert link.get_extra_info("peername")[0] == "10.1.0.1"
    link.deliver(OK % (4, b"good"))
    loop.settle()
    assert client.received.endswith(b"good")
    world.worker.pass_time(1)
    assert world.ejected.health.state is State.TRIAL


def test_a_last_resort_that_fails_is_out_no_longer_than_before(loop: MemoryLoop) -> None:
    world = Unreachable(loop, Service(ejection=Ejection(first_s=100.0, consecutive_failures=1)))
    world.refusing = {"10.1.0.1", "10.1.0.2"}
    until_s = world.ejected.health.until_s
    assert world.ask().received.startswith(b"HTTP/1.1 502 ")
    assert (world.ejected.health.state, world.ejected.health.until_s) == (State.OUT, until_s)
    assert world.ejected.in_flight == 0


def test_a_last_resort_is_paid_from_the_budget_of_the_retries(loop: MemoryLoop) -> None:
    retries = Retries(budget=RetryBudget(share=0.0, minimum=1))
    policy = Service(retries=retries, ejection=Ejection(first_s=100.0, consecutive_failures=1))
    world = Unreachable(loop, policy)
    assert not world.ask().received
    assert world.ask().received.startswith(b"HTTP/1.1 502 ")
    assert world.worker.context.accounts.incidents("default").budget_exhausted == 1
