"""What a worker counts and writes of its requests."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections import Counter
from pathlib import Path

from tests.support.backends import BackendConnection, answering_backend, response, scripted_backend
from tests.support.http import RawClient, get, request
from tests.support.tries import hang
from tests.support.worker import Worker, running_worker, traffic
from weldr.model.access_log import AccessLogSettings
from weldr.model.tally import Tally
from weldr.model.values import Backend, Route, Settings

RESET = struct.pack("ii", 1, 0)


def logged(**members: object) -> Settings:
    return Settings(access_log=AccessLogSettings(**members))  # type: ignore[arg-type]


def kinds(tally: Tally) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for each in tally.counted():
        found[each.method, each.status_class] += each.requests
    return found


async def access_lines(worker: Worker, count: int) -> list[dict[str, object]]:
    """The lines of the access log, as soon as there are so many."""

    def lines() -> list[bytes]:
        return worker.access_log_path.read_bytes().splitlines()

    # It is written soon after a beat, of which there is always a next one.
    await worker.wait_for(lambda: len(lines()) >= count)
    return [json.loads(line) for line in lines()]


async def test_requests_are_counted_where_they_went(worker: Worker) -> None:
    async with answering_backend(response(b"hello")) as backend:
        gone = Backend(host="127.0.0.1", port=1)
        await worker.serve(traffic(backend.port, services={"gone": {"g": gone}, "empty": {}}))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(3):
                await client.exchange(get())
            await client.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            await client.exchange(
                b"BREW / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n"
            )
        assert (await request(worker.port, b"GET / HTTP/2.9\r\n\r\n")).status == 505
        await worker.wait_for(lambda: kinds(worker.counted("", "")))
    tally = worker.counted("default", "b1")
    assert kinds(tally) == {("GET", 2): 3, ("POST", 2): 1, ("OTHER", 2): 1}
    assert (tally.request_bytes, tally.response_bytes) == (4, 25)
    assert kinds(worker.counted("", "")) == {("OTHER", 5): 1}


async def test_a_request_whose_client_leaves_is_counted_without_a_status(worker: Worker) -> None:
    arrived = asyncio.Event()

    async def script(connection: BackendConnection) -> None:
        await connection.request()
        arrived.set()
        await connection.head()

    async with scripted_backend(script) as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.send(get())
            await arrived.wait()
            # Its end alone would not say that it does not wait for the answer.
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await worker.wait_for(lambda: kinds(worker.counted("default", "b1")))
    assert kinds(worker.counted("default", "b1")) == {("GET", 0): 1}


async def test_failures_are_written_with_their_reason_and_a_sample_of_the_rest(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=logged(sample=0.5)))
        for path in ("/1", "/2", "/3?token=x", "/4?token=s3cret"):
            await request(worker.port, get(path, "h.example", "X-Request-Id: r", "User-Agent: u"))
    await worker.serve(traffic(settings=logged()))
    assert (await request(worker.port, get("/5"))).status == 503
    await request(worker.port, get("/6"))
    lines = await access_lines(worker, 4)
    assert [line["target"] for line in lines] == ["/2", "/4?token=***", "/5", "/6"]
    assert lines[1]["client"] == "127.0.0.1"
    assert lines[1]["request_id"] == "r"
    assert lines[1]["backend"] == "b1"
    assert "error" not in lines[1]
    assert lines[2]["error"] == "destination_unavailable"
    assert "backend" not in lines[2]


async def test_the_request_id_in_the_log_is_the_one_that_the_backend_got(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=logged(sample=1.0, fields=("request_id",))))
        await request(worker.port, get())
    assert await access_lines(worker, 1) == [{"request_id": backend.received[0].get("x-request-id")}]


async def test_a_full_disk_stops_no_request(tmp_path: Path) -> None:
    full = Path("/dev/full")
    async with running_worker(tmp_path / "log", access_log_path=full) as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=logged(sample=1.0)))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(50):
                assert (await client.exchange(get())).status == 200
        await worker.wait_for(lambda: sum(frame.access_lines_dropped for frame in worker.tallies))
        assert (await request(worker.port, get())).status == 200


async def test_a_closed_pipe_stops_no_request(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    async with running_worker(tmp_path / "log", access_log_path=pipe) as worker, answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=logged(sample=1.0)))
        assert (await request(worker.port, get())).status == 200
        os.close(reader)
        async with await RawClient.connect(worker.port) as client:
            for _ in range(50):
                assert (await client.exchange(get())).status == 200
        await worker.wait_for(lambda: sum(frame.access_lines_dropped for frame in worker.tallies))
        assert (await request(worker.port, get())).status == 200


async def test_hostile_input_is_one_valid_line_each(worker: Worker) -> None:
    hostile = (
        b'GET /a%0a%1b[31m?x="\'\\ HTTP/1.1\r\nHost: a\r\nUser-Agent: \xe2\x80\xa8\xc2\x85 {"a": 1}\r\n\r\n',
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[2J\x07\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \xff\xfe\xc3(\xed\xa0\x80\r\nReferer: \xf0\x28\x8c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: " + b"\xe2\x82\xac" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b'GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: "\\\x1b\r\n\r\n',
    )
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port, settings=logged(sample=1.0)))
        statuses = [(await request(worker.port, each)).status for each in hostile]
    lines = await access_lines(worker, len(hostile))
    assert sorted(line["status"] for line in lines) == sorted(statuses)
    raw = worker.access_log_path.read_bytes()
    assert len(raw.splitlines()) == len(hostile)
    assert raw.count(b"\n") == len(hostile)
    assert not [byte for byte in raw if byte < 0x20 and byte != 0x0A]
    # What a pipe takes in one piece, so that no other worker's line comes between.
    assert max(map(len, raw.splitlines())) < 4096


async def test_what_ends_with_the_worker_is_in_the_log(worker: Worker) -> None:
    async with answering_backend() as backend, scripted_backend(hang) as silent:
        services = {"silent": {"s": Backend(host="127.0.0.1", port=silent.port)}}
        routes = {"silent": Route(path="/cut", service="silent")}
        settings = logged(sample=1.0, fields=("target", "status"))
        await worker.serve(traffic(backend.port, services=services, routes=routes, settings=settings))
        async with await RawClient.connect(worker.port) as cut, await RawClient.connect(worker.port) as client:
            await cut.send(get("/cut"))
            await client.exchange(get("/before"))
            worker.drain(grace_s=0.1)
            await client.exchange(get("/last"))
            assert await worker.wait() == 0
    lines = worker.access_log_path.read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"target": "/before", "status": 200},
        {"target": "/last", "status": 200},
        {"target": "/cut", "status": 0},
    ]
