"""A new connection that ends, or is spoken on, before its request is sent is as good as none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from tests.support.memory_worker import LOCAL, OK, MemoryWorker
from weldr.model.resilience import Hedging
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend, Service, UpstreamLimits
from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def answer_of(loop: MemoryLoop, backends: list[Callable[[MemoryTransport], None]]) -> tuple[bytes, list[bytes]]:
    """What a client gets for a POST, and what each connection to a backend got.

    Each of `backends` does something with its connection in the turn in which that was made.
    """
    links: list[MemoryTransport] = []

    async def connect(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        protocol = factory()
        link = MemoryTransport(loop, protocol, peer=(host, port), local=LOCAL, limit=65536)
        links.append(link)
        loop.call_soon(backends[len(links) - 1], link)
        return link, protocol

    loop.connect = connect
    context = Context(loop, on_backend_idle=lambda: None)
    put = {f"b{number}": Backend(host=f"10.1.0.{number}", port=80) for number in range(len(backends))}
    context.fleet.apply(TrafficDelta(services={"default": ServiceDelta(policy=None, put=put, removed=[])}))
    client = MemoryTransport(loop, ClientConnection(context), peer=("10.0.0.1", 1), local=LOCAL, limit=65536)
    client.deliver(POST)
    loop.settle()
    assert not client.errors
    return bytes(client.received), [bytes(link.received) for link in links]


def test_the_next_backend_gets_what_was_not_sent(loop: MemoryLoop) -> None:
    shut, reset = MemoryTransport.deliver_eof, MemoryTransport.deliver_reset
    answer, received = answer_of(loop, [shut, reset, lambda link: link.deliver(UNASKED), lambda link: None])
    assert answer == b""
    assert received[:3] == [b"", b"", b""]
    assert received[3].startswith(b"POST / HTTP/1.1\r\n")
    assert received[3].endswith(b"\r\n\r\nabc")


def test_if_all_end_at_once_that_is_said(loop: MemoryLoop) -> None:
    answer, received = answer_of(loop, [MemoryTransport.deliver_eof] * 2)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"the backend closed the connection, or spoke, unasked" in answer
    assert received == [b"", b""]


def test_what_is_read_in_the_turn_is_no_answer_whatever_others_end_meanwhile(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    client, other = worker.client(), worker.client()
    worker.warm([client])
    client.deliver(POST)
    other.deliver_eof()
    worker.links[0].deliver(UNASKED)
    loop.settle()
    assert client.received == b""
    assert (worker.links[0].received, len(worker.links)) == (b"", 2)
    assert worker.links[1].received.startswith(b"POST / HTTP/1.1\r\n")


def test_what_is_read_in_the_turn_is_no_answer_however_many_requests_it_has(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    clients = [worker.client() for _ in range(200)]
    worker.warm(clients)
    kept = list(worker.links)
    for client in clients:
        client.deliver(POST)
    for link in kept:
        link.deliver(UNASKED)
    loop.settle()
    assert all(client.received == b"" for client in clients)
    assert all(link.received == b"" for link in kept)
    assert sum(link.received.startswith(b"POST / HTTP/1.1\r\n") for link in worker.links) == 200


def test_a_connection_that_is_used_again_in_the_turn_carries_the_end_of_the_request_before_first(
    loop: MemoryLoop,
) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    first, second = worker.client(), worker.client()
    first.deliver(POST[:-1])
    loop.settle()
    worker.links[0].deliver(UNASKED[:-1])
    loop.settle()
    first.deliver(POST[-1:])
    worker.links[0].deliver(UNASKED[-1:])
    second.deliver(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    loop.settle()
    assert len(worker.links) == 1
    assert b"\r\n\r\nabcGET / HTTP/1.1\r\n" in worker.links[0].received


def test_many_requests_of_a_turn_in_which_a_kept_connection_fails_have_one_hedge_each(loop: MemoryLoop) -> None:
    # So many that the outbox is sent within the turn, and the last ones begin anew while they begin.
    policy = Service(
        hedging=Hedging(percentile=95.0, minimum_s=0.05), limits=UpstreamLimits(backend_idle_connections=1024)
    )
    worker = MemoryWorker(loop, policy, backends=2)
    latency = worker.context.fleet.table.services["default"].guard.latency
    assert latency is not None
    for _ in range(20):
        latency.add(0.0)
    latency.tick(loop.time())
    clients = [worker.client() for _ in range(1024)]
    worker.warm(clients)
    oldest = {link.get_extra_info("peername"): link for link in reversed(worker.links)}
    for link in oldest.values():
        link.deliver_reset()
    worker.held = []
    for number, client in enumerate(clients):
        client.deliver(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    loop.settle()
    sent = [link for link in worker.links if link.received]
    assert len(sent) == 1022
    for link in sent:
        link.deliver(OK % (2, b"ok"))
    loop.settle()
    held, worker.held = worker.held, None
    loop.advance(0.02)
    for waiting in held:
        waiting.set_result(None)
    loop.settle()
    before = len(worker.links)
    for _ in range(3):
        loop.advance(0.04)
        loop.settle()
    hedges = worker.links[before:]
    asked = [bytes(link.received).split()[1] for link in hedges]
    assert len(set(asked)) == len(asked) <= 2
    assert worker.context.accounts.incidents("default").hedges <= 2
