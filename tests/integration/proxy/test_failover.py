"""Backends that do not answer: who is tried next, what is sent again, and what the client is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from tests.support.backends import (
    BackendConnection,
    answering_backend,
    response,
    scripted_backend,
)
from tests.support.http import IncompleteResponseError, RawClient, Response, get, request
from tests.support.ports import free_port
from tests.support.tries import until_ended
from tests.support.worker import Worker, traffic
from weldr.model.values import Backend, Route, Service, Settings, Timeouts, UpstreamTimeouts

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


def error(answer: Response) -> tuple[int, str | None]:
    return answer.status, answer.proxy_status


async def test_a_backend_that_refuses_is_skipped_for_the_next(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(free_port(), backend.port, free_port()))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(9):
                assert (await client.exchange(get())).status == 200
    assert len(backend.received) == 9


async def test_a_request_with_a_body_is_given_to_the_next_backend_too(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(free_port(), backend.port))
        for _ in range(4):
            assert (await request(worker.port, POST)).status == 200
    assert [received.body for received in backend.received] == [b"abc"] * 4


async def test_a_refusal_is_logged_once_and_not_for_each_request(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(free_port(), backend.port))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(20):
                await client.exchange(get())
    worker.drain()
    await worker.wait()
    assert worker.log.count("a backend takes no connection") == 1


async def test_only_refusing_backends_are_a_502(worker: Worker) -> None:
    await worker.serve(traffic(free_port(), free_port()))
    async with await RawClient.connect(worker.port) as client:
        for data in (get(), POST, b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"):
            answer = await client.exchange(data)
            assert error(answer) == (502, "weldr; error=connection_refused")
            assert (answer.get("content-type") or "").startswith("text/plain")


async def test_each_backend_is_tried_at_most_once(worker: Worker) -> None:
    accepted = 0

    async def script(connection: BackendConnection) -> None:
        nonlocal accepted
        accepted += 1
        connection.reset()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, get())).status == 502
    assert accepted == 1


async def test_a_backend_that_does_not_accept_is_a_504(worker: Worker) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        # The queue of a listening socket with backlog 0 takes one; more get no answer to their SYN.
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        await worker.serve(traffic(port, settings=Settings(timeouts=Timeouts(connect_s=0.5))))
        assert error(await request(worker.port, get())) == (504, "weldr; error=connection_timeout")
        for filler in fillers:
            filler.close()


async def test_a_backend_that_leaves_while_it_is_connected_to_gets_no_request(worker: Worker) -> None:
    # A full queue holds the connection up until there is room and the client's SYN comes again, after a second.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as slow, contextlib.ExitStack() as stack:
        fillers = [stack.enter_context(socket.socket()) for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            with pytest.raises(BlockingIOError):
                filler.connect(slow.getsockname())
        settings = Settings(timeouts=Timeouts(connect_s=60.0))
        await worker.serve(traffic(slow.getsockname()[1], settings=settings))
        async with answering_backend() as backend:
            waiting = asyncio.create_task(request(worker.port, get()))
            await worker.wait_for(lambda: worker.beats and worker.beats[-1].in_flight == 1)
            await worker.serve(traffic(backend.port))
            slow.settimeout(30)
            for _ in range(3):
                accepted, _ = await asyncio.to_thread(slow.accept)
                accepted.close()
            assert (await waiting).status == 200
    assert len(backend.received) == 1


async def test_a_backend_without_an_address_is_a_502(worker: Worker) -> None:
    await worker.serve(traffic(Backend(host="no-such-host.invalid", port=80)))
    assert error(await request(worker.port, get())) == (502, "weldr; error=dns_error")


async def test_no_backend_at_all_is_a_503_with_the_reason(worker: Worker) -> None:
    await worker.serve(
        traffic(
            services={"drained": {"b": Backend(host="127.0.0.1", port=1, drain=True)}},
            routes={
                "r1": Route(service="absent", host="absent"),
                "r2": Route(service="drained", host="drained"),
            },
        )
    )
    reasons = {
        "nowhere": b"no route takes this request, and the service default has no backend\n",
        "absent": b"the service absent has no backend\n",
        "drained": b"every backend of the service drained is draining\n",
    }
    async with await RawClient.connect(worker.port) as client:
        for host, reason in reasons.items():
            answer = await client.exchange(get("/", host))
            assert error(answer) == (503, "weldr; error=destination_unavailable")
            assert answer.body == reason
        # With the body still to come, the connection cannot be kept.
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        answer = await client.receive()
        assert (answer.status, answer.get("connection")) == (503, "close")


async def test_a_kept_connection_that_was_closed_is_not_used(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        backend.received.append(await connection.request())  # type: ignore[arg-type]
        await connection.send(response())
        connection.writer.write_eof()
        # The worker closes its side when it has noticed.
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            for number in range(1, 4):
                assert (await client.exchange(POST)).status == 200
                assert len(backend.connections) == number
                await until_ended(backend.connections[-1])


@pytest.mark.parametrize(
    ("data", "again"),
    [
        (get(), True),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (POST, False),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", False),
        (b"PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", False),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    ],
    ids=["GET", "HEAD", "DELETE", "POST", "empty POST", "PATCH", "PUT", "chunked PUT"],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_request_lost_on_a_kept_connection_is_sent_again_only_if_that_is_harmless(
    worker: Worker, data: bytes, again: bool, how: str
) -> None:
    """The backend closes the kept connection just as the next request is under way."""

    async def script(connection: BackendConnection) -> None:
        if connection.number == 1:
            await connection.request()
            await connection.send(response())
            received = await connection.head()
        else:
            received = await connection.request()
        assert received is not None
        backend.received.append(received)
        if connection.number == 1:
            if how == "reset":
                connection.reset()
            return
        await connection.send(response())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get("/first"))).status == 200
            answer = await client.exchange(data)
            if again:
                assert answer.status == 200
                assert len(backend.received) == 2
            else:
                assert error(answer) == (502, "weldr; error=connection_terminated")
                assert len(backend.received) == 1


async def test_a_request_is_sent_again_once_and_on_a_new_connection(worker: Worker) -> None:
    together = asyncio.Barrier(3)

    async def script(connection: BackendConnection) -> None:
        if connection.number <= 3:
            await connection.request()
            await together.wait()
            await connection.send(response())
        received = await connection.head()
        assert received is not None
        backend.received.append(received)
        if connection.number > 3:
            await connection.send(response())

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        await asyncio.gather(*(request(worker.port, get("/first")) for _ in range(3)))
        assert (await request(worker.port, get())).status == 200
    assert len(backend.received) == 2
    assert len(backend.connections) == 4


async def test_a_request_lost_on_a_new_connection_is_not_sent_again(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        backend.received.append(await connection.request())  # type: ignore[arg-type]

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        assert error(await request(worker.port, get())) == (502, "weldr; error=connection_terminated")
    assert len(backend.received) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_request_is_not_sent_again_once_a_byte_of_the_response_has_come(
    worker: Worker, how: str
) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(response())
        while received := await connection.request():
            backend.received.append(received)
            await connection.send(b"HTTP/1.1 2")
            if how == "reset":
                await connection.until_read()
                connection.reset()
            return

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(get("/first"))).status == 200
            answer = await client.exchange(get())
            assert error(answer) == (502, "weldr; error=http_response_incomplete")
    assert len(backend.received) == 1


async def test_a_backend_that_does_not_respond_is_a_504(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        policy = Service(timeouts=UpstreamTimeouts(response_s=0.5))
        await worker.serve(traffic(backend.port, policy=policy))
        assert error(await request(worker.port, get())) == (504, "weldr; error=http_response_timeout")


async def test_interim_responses_do_not_put_off_the_time_for_the_response(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        while True:
            await connection.send(b"HTTP/1.1 102 Processing\r\n\r\n")
            await asyncio.sleep(0.1)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(response_s=1.0))))
        answer = await request(worker.port, get())
        assert error(answer) == (504, "weldr; error=http_response_timeout")
        assert answer.interim


async def test_a_response_that_stalls_is_cut_off(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")
        await connection.reader.read()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(read_s=0.5))))
        with pytest.raises(IncompleteResponseError):
            await request(worker.port, get())


async def test_a_kept_connection_is_retired_when_it_is_not_used(worker: Worker) -> None:
    closed = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await connection.send(response())
        closed.set()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(timeouts=Timeouts(upstream_idle_s=0.5))))
        assert (await request(worker.port, get())).status == 200
        async with asyncio.timeout(30):
            await closed.wait()


async def test_a_kept_connection_on_which_a_backend_speaks_unasked_is_not_used(worker: Worker) -> None:
    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await connection.send(response())
            await asyncio.sleep(0.05)
            await connection.send(response(b"evil"))

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(3):
                assert (await client.exchange(get())).body == b"ok"
                await asyncio.sleep(0.2)
    assert len(backend.connections) == 3


async def test_connections_are_kept_and_used_again(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        for _ in range(20):
            assert (await request(worker.port, get())).status == 200
        assert len(backend.connections) == 1


@pytest.mark.parametrize(
    "sent",
    [
        response() + b"EXTRA",
        response() + response(b"evil"),
        response(b"ok", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["more than asked for", "two responses", "Connection: close", "HTTP/1.0"],
)
async def test_a_connection_that_is_not_fit_for_another_request_is_not_used_again(
    worker: Worker, sent: bytes
) -> None:
    async def script(connection: BackendConnection) -> None:
        while await connection.request():
            await connection.send(sent)

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            for number in range(1, 4):
                assert (await client.exchange(POST)).body == b"ok"
                assert len(backend.connections) == number
