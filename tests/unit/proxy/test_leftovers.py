"""What one use or one event leaves behind does not befall the next, not even in the same turn of the loop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from tests.support.memory_worker import OK, MemoryWorker
from weldr.model.balancing import Balance, Sticky
from weldr.model.resilience import AdaptiveConcurrency, CircuitBreaker, Hedging
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend, Limits, Service, Settings, Timeouts, UpstreamLimits
from weldr.proxy import upstream_connection
from weldr.proxy.context import Context
from weldr.proxy.mirror import mirror
from weldr.proxy.response_reader import ResponseReader

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


ONE_CONNECTION = Settings(limits=Limits(backend_connections=1))


def get(target: bytes) -> bytes:
    return b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % target


def learn_latency(worker: MemoryWorker) -> None:
    """As if many requests had been answered at once: so the next one is late soon."""
    latency = worker.context.fleet.table.services["default"].guard.latency
    assert latency is not None
    for _ in range(20):
        latency.add(0.0)
    latency.tick(worker.loop.time())


def begin_hedge(worker: MemoryWorker) -> tuple[MemoryTransport, MemoryTransport]:
    """A client whose request is late, and the connection of its hedge."""
    learn_latency(worker)
    client = worker.client()
    client.deliver(get(b"one"))
    worker.loop.settle()
    worker.loop.advance(0.02)
    worker.loop.settle()
    _, hedge = worker.links
    return client, hedge


def test_a_slow_upload_is_not_cut_when_its_kept_connection_would_have_been_retired(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    client = worker.client()
    worker.warm([client])
    client.deliver(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    for _ in range(100):
        worker.pass_time(1)
        client.deliver(b"x")
    loop.settle()
    assert client.received == b""
    assert worker.links[0].received.endswith(b"\r\n\r\n" + b"x" * 100)
    worker.links[0].deliver(OK % (2, b"ok"))
    loop.settle()
    assert client.received.endswith(b"ok")


def test_who_lingers_is_cut_off_also_when_the_response_was_read_late(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    client = worker.client(limit=1024)
    client.set_peer_reads(False)
    client.deliver(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nwhat else comes")
    loop.settle()
    worker.links[0].deliver(OK % (4096, b"x" * 4096))
    loop.settle()
    worker.pass_time(5)
    assert not client.lost
    client.set_peer_reads(True)
    worker.pass_time(600)
    assert client.received.endswith(b"x" * 4096)
    assert client.lost
    assert len(worker.context.clients) == 0


def test_a_request_that_was_not_sent_begins_anew_without_its_hedge(loop: MemoryLoop) -> None:
    # The turn takes longer than the hedge waits, and the kept connection fails in it.
    worker = MemoryWorker(loop, Service(hedging=Hedging(percentile=95.0, minimum_s=0.01)), backends=2)
    clients = [worker.client() for _ in range(2)]
    worker.warm(clients)
    learn_latency(worker)
    client = clients[0]
    client.deliver(get(b"one"))
    worker.links[0].deliver_reset()
    loop.advance(0.02)
    worker.held = []
    loop.settle()
    for link in worker.links[1:]:
        if link.received:
            link.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhedge")
    loop.settle()
    for waiting in worker.held:
        waiting.set_result(None)
    loop.settle()
    if not client.received:
        worker.links[-1].deliver(OK % (5, b"first"))
        loop.settle()
    assert client.received.startswith(b"HTTP/1.1 200 OK\r\n")
    client.received.clear()
    worker.held = None
    client.deliver(get(b"two"))
    loop.settle()
    assert sum(bytes(link.received).count(b"GET /two") for link in worker.links) == 1
    assert worker.context.counters.in_flight == 1
    assert client.received == b""


def test_of_a_hedge_without_a_final_response_only_the_latest_interim_ones_are_kept(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(hedging=Hedging(percentile=95.0, minimum_s=0.01)), backends=2)
    client, hedge = begin_hedge(worker)
    for number in range(1000):
        hedge.deliver(b"HTTP/1.1 103 Early Hints\r\nX: %d\r\n\r\n" % number)
        loop.settle()
    assert not client.received
    hedge.deliver(OK % (2, b"ok"))
    loop.settle()
    assert client.received.endswith(b"ok")
    assert b"\r\nX: 999\r\n" in client.received
    assert client.received.count(b"HTTP/1.1 103") < 100


def test_a_hedge_whose_backend_has_gone_meanwhile_is_an_answer_without_a_cookie(loop: MemoryLoop) -> None:
    policy = Service(hedging=Hedging(percentile=95.0, minimum_s=0.01), balance=Balance(sticky=Sticky()))
    worker = MemoryWorker(loop, policy, backends=2)
    fleet = worker.context.fleet
    fleet.apply(TrafficDelta(sticky_key=b"k" * 32))
    client, hedge = begin_hedge(worker)
    host, _ = hedge.get_extra_info("peername")
    hedged = next(pool for pool in fleet.table.services["default"].members if pool.key[2] == host)
    gone = ServiceDelta(policy=None, put={}, removed=[hedged.key[1]])
    fleet.apply(TrafficDelta(services={"default": gone}))
    hedge.deliver(OK % (2, b"ok"))
    loop.settle()
    assert client.received.endswith(b"ok")
    assert b"Set-Cookie" not in client.received


def test_a_waiting_request_that_a_sweep_has_answered_is_not_answered_by_it_again(loop: MemoryLoop) -> None:
    settings = Settings(timeouts=Timeouts(connect_s=2.0, response_s=2.0))
    breaker = CircuitBreaker(minimum_requests=1, open_s=60.0)
    policy = Service(circuit_breaker=breaker, limits=UpstreamLimits(requests_in_flight=1))
    worker = MemoryWorker(loop, policy, 1, settings)
    first = worker.client()
    first.deliver(POST)
    loop.settle()
    waiting = [worker.client() for _ in range(16)]
    for client in waiting:
        client.deliver(POST)
    loop.settle()
    worker.pass_time(3)
    assert first.received.startswith(b"HTTP/1.1 504 ")
    for client in waiting:
        assert client.received.count(b"HTTP/1.1 503 ") == 1
    assert worker.context.counters.in_flight == 0


def test_what_is_read_in_the_turn_in_which_another_becomes_a_tunnel_is_no_answer(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    client, other = worker.client(), worker.client()
    worker.warm([client])
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    worker.links[0].deliver_eof()
    other.deliver(upgrade)
    loop.settle()
    worker.warm([client])
    _, tunnel, kept = worker.links
    client.deliver(POST)
    tunnel.deliver(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    kept.deliver(OK % (7, b"unasked"))
    loop.settle()
    assert other.received.startswith(b"HTTP/1.1 101 ")
    assert client.received == b""
    assert (kept.received, len(worker.links)) == (b"", 4)


def test_that_no_backend_had_room_is_forgotten_with_the_last_who_waited_for_it(loop: MemoryLoop) -> None:
    worker = MemoryWorker(
        loop, Service(adaptive_concurrency=AdaptiveConcurrency(initial=50, minimum=1)), 2, ONE_CONNECTION
    )
    pending = worker.context.fleet.table.services["default"].guard.pending
    clients = [worker.client() for _ in range(3)]
    for client in clients:
        client.deliver(get(b"warm"))
    loop.settle()
    assert len(pending.waiting) == 1
    clients.pop().deliver_reset()
    loop.settle()
    for link in worker.links:
        link.deliver(OK % (4, b"warm"))
    loop.settle()
    # Load has risen.
    pending.adaptive_limit = 1
    asking = clients[0]
    asking.received.clear()
    for client in clients:
        client.deliver(get(b"now"))
    loop.settle()
    (asked,) = (link for link in worker.links if b" /now " in link.received)
    asked.deliver(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno")
    loop.settle()
    loop.advance(0.03)
    loop.settle()
    assert asking.received == b""
    assert all(b" /now " in link.received for link in worker.links)


def test_who_is_cut_off_in_a_sweep_is_not_refused_by_it_as_well(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    clients = [worker.client() for _ in range(8)]
    for client in clients:
        client.deliver(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
    loop.settle()
    for link in worker.links:
        link.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    worker.pass_time(70)
    tallies = worker.context.accounts.take().tallies
    assert sum(sum(tally.counts.values()) for tally in tallies) == len(clients)
    assert all(client.lost for client in clients)


def test_no_tunnel_begins_on_a_connection_that_has_failed(
    loop: MemoryLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last piece of the request could not be sent, and the answer is read after that.
    worker = MemoryWorker(loop, Service(), backends=1)
    client = worker.client()
    client.deliver(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\na"
    )
    loop.settle()
    client.deliver(b"b")
    loop.settle()
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    monkeypatch.setattr(upstream_connection, "unread", lambda transport: iter([answer]))
    worker.links[0].deliver_reset()
    loop.settle()
    if not client.lost:
        client.deliver_reset()
    loop.settle()
    counters = worker.context.counters
    assert (counters.in_flight, counters.tunnels, worker.context.fleet.loads()) == (0, 0, [])


def test_a_backend_that_reads_nothing_of_what_was_answered_does_not_hold_its_connection(
    loop: MemoryLoop,
) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    client = worker.client()
    client.deliver(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
    loop.settle()
    (link,) = worker.links
    link.set_peer_reads(False)
    client.deliver(b"b")
    loop.settle()
    link.deliver(OK % (2, b"ok"))
    loop.settle()
    assert client.received.endswith(b"ok")
    worker.pass_time(600)
    assert link.lost


def test_a_kept_connection_holds_nothing_of_the_last_body() -> None:
    reader = ResponseReader()
    reader.method = b"GET"
    reader.begin(Limits())
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n"
    reader.feed(body)
    assert reader.reusable
    (content,) = reader.take_body()
    # This name, and the argument of the call.
    assert sys.getrefcount(content) == 2


async def test_a_copy_that_fails_unexpectedly_leaves_its_place() -> None:
    context = Context(asyncio.get_running_loop(), on_backend_idle=lambda: None)
    put = {"b1": Backend(host="10.1.0.1", port=80)}
    context.fleet.apply(TrafficDelta(services={"copies": ServiceDelta(policy=None, put=put, removed=[])}))
    context.loop = cast(Any, Unexpected(context.loop))
    mirror(context, "copies", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.sleep(0.01)
    assert (context.counters.faults, context.mirrored, context.fleet.loads()) == (1, 0, [])


def test_a_copy_whose_answer_has_no_end_leaves_its_place_in_time(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)
    mirror(worker.context, "default", b"GET", get(b"events"))
    loop.settle()
    (link,) = worker.links
    link.deliver(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    for _ in range(200):
        worker.pass_time(1)
        if link.is_closing():
            break
        link.deliver(b"data: 1\n\n")
    assert link.is_closing()
    assert worker.context.mirrored == 0


class Unexpected:
    """A loop in which connecting fails as nobody expects."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, *_: object) -> Any:
        raise RuntimeError("nobody expected this")
