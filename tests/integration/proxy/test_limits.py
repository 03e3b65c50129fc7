"""What a worker takes is bounded: connections, requests that wait, sizes of heads, and silence."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.backends import (
    BackendConnection,
    Received,
    answering_backend,
    echo_tunnel,
    response,
    scripted_backend,
)
from tests.support.http import RawClient, Response, get, request
from tests.support.worker import Worker, running_worker, traffic
from weldr.model.values import Limits, Service, Settings, Timeouts, UpstreamLimits, UpstreamTimeouts

PATIENT = UpstreamTimeouts(connect_s=60)
"""Nobody is to be refused since the machine is busy."""


def settings(**limits: int) -> Settings:
    return Settings(limits=Limits(**limits))


@pytest.mark.parametrize(
    ("limits", "data", "status"),
    [
        ({"request_line_bytes": 100}, b"GET /" + b"a" * 82 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ({"request_line_bytes": 100}, b"GET /" + b"a" * 87 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        ({"head_bytes": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 900 + b"\r\n\r\n", 200),
        ({"head_bytes": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1100 + b"\r\n\r\n", 431),
        ({"head_bytes": 1024}, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1100, 431),
        ({"head_fields": 3}, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\n\r\n", 200),
        ({"head_fields": 3}, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\nZ: 3\r\n\r\n", 431),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_the_sizes_of_a_head_are_those_of_the_settings(
    worker: Worker, limits: dict[str, int], data: bytes, status: int, bytewise: bool
) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=settings(**limits)))
        assert (await request(worker.port, data, bytewise=bytewise)).status == status


async def test_a_response_head_beyond_the_settings_is_a_502(worker: Worker) -> None:
    async with answering_backend(response(b"ok", "X: " + "a" * 1100)) as backend:
        await worker.serve(traffic(backend.port, settings=settings(head_bytes=1024)))
        assert (await request(worker.port, get())).status == 502


class Gated:
    """A backend that answers each request when it is told to."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most_waiting = 0
        self.received: list[Received] = []
        self.arrived = asyncio.Condition()
        self.answers = asyncio.Semaphore(0)

    async def script(self, connection: BackendConnection) -> None:
        while received := await connection.request():
            self.received.append(received)
            async with self.arrived:
                self.waiting += 1
                self.most_waiting = max(self.waiting, self.most_waiting)
                self.arrived.notify_all()
            await self.answers.acquire()
            self.waiting -= 1
            await connection.send(response())

    async def until_waiting(self, count: int) -> None:
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: self.waiting == count)


async def test_a_body_that_comes_while_its_request_waits_is_sent_once(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend, await RawClient.connect(worker.port) as client:
        policy = Service(limits=UpstreamLimits(backend_connections=1), timeouts=PATIENT)
        await worker.serve(traffic(backend.port, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_waiting(1)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        await worker.wait_for(lambda: worker.beats[-1].in_flight == 2)
        await client.send(b"abc")
        gated.answers.release()
        await first
        await client.send(b"def")
        gated.answers.release()
        assert (await client.receive()).status == 200
        assert [received.body for received in gated.received] == [b"", b"abcdef"]


async def test_requests_whose_clients_leave_while_they_wait_reach_no_backend(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        policy = Service(limits=UpstreamLimits(backend_connections=1), timeouts=PATIENT)
        await worker.serve(traffic(backend.port, policy=policy))
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        asked = [asyncio.create_task(request(worker.port, post))]
        await gated.until_waiting(1)
        leaving = [await RawClient.connect(worker.port) for _ in range(6)]
        for client in leaving:
            await client.send(post)
        await worker.wait_for(lambda: worker.beats[-1].in_flight == 7)
        asked.append(asyncio.create_task(request(worker.port, post)))
        await worker.wait_for(lambda: worker.beats[-1].in_flight == 8)
        for client in leaving:
            client.writer.close()
        await worker.wait_for(lambda: worker.beats[-1].in_flight == 2)
        gated.answers.release()
        gated.answers.release()
        assert [(await answer).status for answer in asked] == [200, 200]
        assert len(gated.received) == 2


async def test_requests_beyond_a_backends_connections_wait_for_one(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        policy = Service(limits=UpstreamLimits(backend_connections=2), timeouts=PATIENT)
        await worker.serve(traffic(backend.port, policy=policy))
        asked = [asyncio.create_task(request(worker.port, get())) for _ in range(6)]
        await gated.until_waiting(2)
        for _ in asked:
            gated.answers.release()
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers] == [200] * 6
        assert gated.most_waiting == 2
        assert len(backend.connections) == 2


async def test_a_request_goes_to_another_backend_before_it_waits(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as full, answering_backend() as other:
        policy = Service(limits=UpstreamLimits(backend_connections=1), timeouts=PATIENT)
        await worker.serve(traffic(full.port, other.port, policy=policy))
        held = [asyncio.create_task(request(worker.port, get())) for _ in range(2)]
        await gated.until_waiting(1)
        for _ in range(4):
            assert (await request(worker.port, get())).status == 200
        gated.answers.release()
        await asyncio.gather(*held)


async def test_more_than_may_wait_are_refused_and_none_waits_for_ever(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        policy = Service(
            limits=UpstreamLimits(backend_connections=1, pending_requests=2),
            timeouts=UpstreamTimeouts(connect_s=1.0),
        )
        await worker.serve(traffic(backend.port, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_waiting(1)
        answers = await asyncio.gather(*(request(worker.port, get()) for _ in range(5)))
        assert [answer.status for answer in answers] == [503] * 5
        assert {answer.proxy_status for answer in answers} == {"weldr; error=connection_limit_reached"}
        gated.answers.release()
        assert (await first).status == 200
        # Those that gave up hold no place.
        gated.answers.release()
        assert (await request(worker.port, get())).status == 200


async def test_requests_that_wait_are_given_to_a_backend_that_comes(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend, answering_backend() as other:
        policy = Service(limits=UpstreamLimits(backend_connections=1), timeouts=PATIENT)
        await worker.serve(traffic(backend.port, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_waiting(1)
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 2)
            await worker.serve(traffic(backend.port, other.port, policy=policy))
            assert (await client.receive()).status == 200
        gated.answers.release()
        await first


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(worker: Worker) -> None:
    gated = Gated()
    async with scripted_backend(gated.script) as backend:
        policy = Service(limits=UpstreamLimits(backend_connections=1, pending_requests=1), timeouts=PATIENT)
        await worker.serve(traffic(backend.port, policy=policy))
        first = asyncio.create_task(request(worker.port, get()))
        await gated.until_waiting(1)
        async with await RawClient.connect(worker.port) as leaving:
            await leaving.send(get())
            await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 2)
            # Its end alone would not say that it does not wait for the answer.
            leaving.reset()
        await worker.wait_for(lambda: worker.beats[-1].in_flight == 1)
        second = asyncio.create_task(request(worker.port, get()))
        gated.answers.release()
        gated.answers.release()
        assert [(await each).status for each in (first, second)] == [200, 200]
        assert gated.most_waiting == 1


async def test_no_more_connections_are_kept_than_may_be_idle(worker: Worker) -> None:
    async with answering_backend() as backend:
        policy = Service(limits=UpstreamLimits(backend_idle_connections=0))
        await worker.serve(traffic(backend.port, policy=policy))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(3):
                assert (await client.exchange(get())).status == 200
        assert len(backend.connections) == 3


async def test_clients_beyond_the_limit_wait_until_others_leave(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=settings(client_connections=3)))
        clients = [await RawClient.connect(worker.port) for _ in range(3)]
        for client in clients:
            assert (await client.exchange(get())).status == 200
        # Accepting has stopped: this one is queued by the system and gets no answer yet.
        waiting = await RawClient.connect(worker.port)
        await waiting.send(get())
        beats = len(worker.beats)
        await worker.wait_for(lambda: len(worker.beats) >= beats + 2)
        assert worker.beats[-1].connections == 3
        for client in clients:
            client.writer.close()
        assert (await waiting.receive()).status == 200
        waiting.writer.close()


async def test_a_burst_of_clients_beyond_the_limit_is_answered_503_or_served_later(worker: Worker) -> None:
    async def ask() -> Response:
        return await request(worker.port, get("/", "a", "Connection: close"))

    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=settings(client_connections=10)))
        for _ in range(3):
            answers = await asyncio.gather(*(ask() for _ in range(200)))
            assert {answer.status for answer in answers} <= {200, 503}
            assert sum(answer.status == 200 for answer in answers) >= 10
        assert (await ask()).status == 200


async def test_running_out_of_descriptors_sheds_load_and_recovers(tmp_path: Path) -> None:
    async with running_worker(tmp_path / "log", descriptors=144) as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        clients = [await RawClient.connect(worker.port) for _ in range(300)]
        for client in clients:
            client.writer.write(get())
        beats = len(worker.beats)
        await worker.wait_for(lambda: len(worker.beats) >= beats + 2)
        for client in clients:
            client.writer.transport.abort()
        await worker.wait_for(lambda: worker.beats[-1].in_flight == 0)
        for _ in range(20):
            assert (await request(worker.port, get())).status == 200
        assert "Traceback" not in worker.log


async def test_idle_clients_leave_descriptors_to_the_backends_and_take_no_more_than_one_each(
    tmp_path: Path,
) -> None:
    async with running_worker(tmp_path / "log", descriptors=464) as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        # Of 400 connections a quarter is for the backends.
        clients = [await RawClient.connect(worker.port) for _ in range(299)]
        for few in (clients[start : start + 50] for start in range(0, len(clients), 50)):
            answers = await asyncio.gather(*(client.exchange(get()) for client in few))
            assert {answer.status for answer in answers} == {200}
        for client in clients:
            client.writer.transport.abort()
    assert "as many clients as may be" not in worker.log


async def test_requests_beyond_the_descriptors_are_a_503_and_idle_ones_are_not_harmed(tmp_path: Path) -> None:
    gated = Gated()
    async with (
        running_worker(tmp_path / "log", descriptors=464) as worker,
        scripted_backend(gated.script) as backend,
    ):
        await worker.serve(traffic(backend.port))
        clients = [await RawClient.connect(worker.port) for _ in range(299)]
        await worker.wait_for(lambda: worker.beats and worker.beats[-1].connections == 299)
        for client in clients:
            client.writer.write(get())
        waiting = [asyncio.create_task(client.receive()) for client in clients]
        await worker.wait_for(lambda: worker.beats[-1].requests == 299)
        for _ in clients:
            gated.answers.release()
        statuses = [answer.status for answer in await asyncio.gather(*waiting)]
        assert set(statuses) == {200, 503}
        assert 100 <= statuses.count(200) <= 170
        # Those that were shed were told so, and are served now.
        shed = clients[statuses.index(503)]
        gated.answers.release()
        assert (await shed.exchange(get())).status == 200
        for client in clients:
            client.writer.transport.abort()
    assert "Traceback" not in worker.log


async def test_kept_connections_give_way_to_clients(tmp_path: Path) -> None:
    gated = Gated()
    async with (
        running_worker(tmp_path / "log", descriptors=264) as worker,
        scripted_backend(gated.script) as backend,
    ):
        await worker.serve(traffic(backend.port))
        # Of 200 connections at first 90 are clients' and 90 are kept to the backend.
        first = [await RawClient.connect(worker.port) for _ in range(90)]
        for client in first:
            client.writer.write(get())
        await gated.until_waiting(90)
        for _ in first:
            gated.answers.release()
        for client in first:
            assert (await client.receive()).status == 200
        others = [await RawClient.connect(worker.port) for _ in range(59)]
        await worker.wait_for(lambda: sum(each.ended.is_set() for each in backend.connections) >= 39)
        gated.answers.release()
        assert (await others[-1].exchange(get())).status == 200
        for client in (*first, *others):
            client.writer.transport.abort()


@pytest.mark.real_time
async def test_a_silent_tunnel_is_closed_after_its_time(worker: Worker) -> None:
    async with scripted_backend(echo_tunnel) as backend:
        policy = Service(timeouts=UpstreamTimeouts(tunnel_idle_s=1.0))
        await worker.serve(traffic(backend.port, policy=policy))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(get("/", "a", "Connection: Upgrade", "Upgrade: x"))
            loop = asyncio.get_running_loop()
            for _ in range(4):
                await client.send(b"a")
                assert await client.reader.readexactly(1) == b"a"
                await asyncio.sleep(0.4)
            began_s = loop.time()
            assert await client.is_closed()
            assert loop.time() - began_s < 5
            await asyncio.wait_for(backend.connections[0].ended.wait(), 30)


@pytest.mark.parametrize(("kept", "connections"), [("timeout=1", 2), ("timeout=1000", 1), ("max=5", 1)])
async def test_a_kept_connection_is_retired_before_the_backend_closes_it(
    worker: Worker, kept: str, connections: int
) -> None:
    async with answering_backend(response(b"ok", f"Keep-Alive: {kept}")) as backend:
        await worker.serve(traffic(backend.port))
        for _ in range(2):
            assert (await request(worker.port, get())).status == 200
        assert len(backend.connections) == connections


async def test_an_idle_connection_is_retired_after_the_settings_time(worker: Worker) -> None:
    async with answering_backend() as backend:
        timeouts = Timeouts(upstream_idle_s=0.5)
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=timeouts)))
        assert (await request(worker.port, get())).status == 200
        await asyncio.wait_for(backend.connections[0].ended.wait(), 30)
