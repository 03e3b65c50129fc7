"""Requests that wait for room: who is woken, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from tests.support.memory_worker import OK, MemoryWorker
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Service, UpstreamLimits
from weldr.proxy.pool import BackendPool


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def ask(worker: MemoryWorker, name: str) -> MemoryTransport:
    client = worker.client()
    client.deliver(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode())
    worker.loop.settle()
    return client


def answer(worker: MemoryWorker, name: str) -> None:
    link = next(link for link in worker.links if link.received.startswith(b"GET /%b " % name.encode()))
    link.received.clear()
    link.deliver(OK % (4, b"good"))
    worker.loop.settle()


def at_backends(worker: MemoryWorker) -> set[str]:
    return {link.received.split()[1].decode()[1:] for link in worker.links if link.received}


def test_those_that_wait_keep_their_order_while_a_backend_has_more_than_it_may(loop: MemoryLoop) -> None:
    def policy(connections: int) -> Service:
        return Service(limits=UpstreamLimits(backend_connections=connections))

    worker = MemoryWorker(loop, policy(2), backends=1)
    for name in ("a", "b", "first", "second"):
        ask(worker, name)
    worker.context.fleet.apply(
        TrafficDelta(services={"default": ServiceDelta(policy=policy(1), put={}, removed=[])})
    )
    loop.settle()
    answer(worker, "a")
    answer(worker, "b")
    assert at_backends(worker) == {"first"}


def test_who_waits_for_the_service_gets_the_place_of_who_begins_to_wait_for_a_backend(loop: MemoryLoop) -> None:
    limits = UpstreamLimits(requests_in_flight=2, backend_connections=1)
    worker = MemoryWorker(loop, Service(limits=limits), backends=2)
    ask(worker, "a")
    worker.held = []
    ask(worker, "b")
    ask(worker, "c")
    assert at_backends(worker) == {"a"}
    [connecting], worker.held = worker.held, None
    connecting.set_exception(ConnectionRefusedError())
    loop.settle()
    # The backend that refused it may be back, and is one for the other.
    assert at_backends(worker) == {"a", "c"}
    answer(worker, "a")
    assert at_backends(worker) == {"b", "c"}


class Waiter:
    """A request that has failed at one backend."""

    def __init__(self, tried: BackendPool) -> None:
        self._tried = tried
        self.given: list[BackendPool | None] = []

    def tried_backends(self) -> tuple[BackendPool, ...]:
        return (self._tried,)

    def wait_over(self, pool: BackendPool | None) -> None:
        self.given.append(pool)


def one_at_a_time(loop: MemoryLoop) -> MemoryWorker:
    return MemoryWorker(loop, Service(limits=UpstreamLimits(backend_connections=1)), backends=1)


def test_a_request_whose_client_ends_its_side_while_it_waits_leaves_the_queue_and_is_answered(
    loop: MemoryLoop,
) -> None:
    worker = one_at_a_time(loop)
    ask(worker, "a")
    left, stays = ask(worker, "left"), ask(worker, "stays")
    left.deliver_eof()
    loop.settle()
    assert left.received.startswith(b"HTTP/1.1 503 ")
    assert b"connection_limit_reached" in left.received
    assert left.lost
    answer(worker, "a")
    assert at_backends(worker) == {"stays"}
    answer(worker, "stays")
    assert stays.received.endswith(b"good")
    incidents = worker.context.accounts.incidents("default")
    assert (incidents.queued, incidents.shed) == (2, 1)
    assert worker.context.counters.in_flight == 0


def test_a_request_under_way_outlives_the_end_of_its_clients_side_but_does_not_begin_to_wait(
    loop: MemoryLoop,
) -> None:
    worker = MemoryWorker(loop, Service(limits=UpstreamLimits(backend_connections=1)), backends=2)
    ask(worker, "a")
    worker.held = []
    client = ask(worker, "b")
    client.deliver_eof()
    loop.settle()
    assert not client.received
    [connecting], worker.held = worker.held, None
    connecting.set_exception(ConnectionRefusedError())
    loop.settle()
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert worker.context.accounts.incidents("default").queued == 0


def test_of_requests_sent_ahead_of_an_end_those_that_would_wait_are_answered_at_once(loop: MemoryLoop) -> None:
    worker = one_at_a_time(loop)
    ask(worker, "a")
    client = worker.client()
    client.deliver(b"".join(b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % name for name in (b"b", b"c")))
    loop.settle()
    # The end is behind the second one, which is not read before its turn.
    assert not client.takes
    answer(worker, "a")
    assert at_backends(worker) == {"b"}
    ask(worker, "d")
    answer(worker, "b")
    assert at_backends(worker) == {"d"}
    client.deliver_eof()
    loop.settle()
    assert client.received.count(b"HTTP/1.1 200 OK") == 1
    assert client.received.count(b"HTTP/1.1 503 ") == 1
    assert client.lost


def test_the_end_of_a_clients_side_is_seen_behind_a_body_that_came_by_itself(loop: MemoryLoop) -> None:
    worker = one_at_a_time(loop)
    ask(worker, "a")
    client = worker.client()
    client.deliver(b"POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
    client.deliver(b"abc")
    client.deliver_eof()
    loop.settle()
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert client.lost


def test_room_in_the_service_is_for_who_waits_also_if_it_cannot_use_the_backend_that_ended(
    loop: MemoryLoop,
) -> None:
    worker = MemoryWorker(loop, Service(limits=UpstreamLimits(requests_in_flight=1)), backends=2)
    ask(worker, "a")
    service = worker.context.fleet.table.services["default"]
    [tried] = [pool for pool in service.members if pool.in_flight]
    [other] = [pool for pool in service.members if pool is not tried]
    waiter = Waiter(tried)
    service.guard.pending.waiting[waiter] = None
    answer(worker, "a")
    assert waiter.given == [other]
