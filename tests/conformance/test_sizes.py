"""Sizes at their very limits, and one over."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.backends import ScriptedBackend, backend_sending, response
from tests.support.http import RawClient, get, request
from tests.support.worker import Worker, traffic
from weldr.model.values import Limits, Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH_WAYS = pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
LINE_BYTES, HEAD_BYTES, FIELDS = 8192, 65536, 100


def line(size: int) -> bytes:
    """A request whose line has this size."""
    return b"GET /" + b"a" * (size - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def head(size: int) -> bytes:
    """A request whose head has this size, the empty line not counted."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"a" * (size - len(start)) + b"\r\n\r\n"


def fields(count: int) -> bytes:
    return get("/", "a", *(f"X{number}: 1" for number in range(1, count)))


def trailer(size: int) -> bytes:
    """A request whose trailer section has this size."""
    start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    return start + b"X: " + b"a" * (size - 3) + b"\r\n\r\n"


def trailer_fields(count: int) -> bytes:
    return trailer(4)[:-2] + b"X: 1\r\n" * (count - 1) + b"\r\n"


def extension(size: int) -> bytes:
    """A request with a chunk whose size has an extension, and with it this many bytes."""
    start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return start + b"1;" + b"a" * (size - 2) + b"\r\na\r\n0\r\n\r\n"


def extensions(count: int, content: int = 1) -> bytes:
    """A request with so many chunks of this size, whose extensions take 1000 bytes more than a size does."""
    start = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = b"%x;" % content
    chunk = size + b"a" * (1016 - len(size)) + b"\r\n" + b"b" * content + b"\r\n"
    return start + chunk * count + b"0\r\n\r\n"


SIZES: dict[str, tuple[bytes, int]] = {
    "a request line at the limit": (line(LINE_BYTES), 200),
    "a request line one over": (line(LINE_BYTES + 1), 414),
    "a head at the limit": (head(HEAD_BYTES), 200),
    "a head one over": (head(HEAD_BYTES + 1), 431),
    "fields at the limit": (fields(FIELDS), 200),
    "fields one over": (fields(FIELDS + 1), 431),
    "many small fields": (fields(3000), 431),
    "a trailer section at the limit": (trailer(HEAD_BYTES), 200),
    "a trailer section one over": (trailer(HEAD_BYTES + 1), 400),
    "fields of a trailer section at the limit": (trailer_fields(FIELDS), 200),
    "fields of a trailer section one over": (trailer_fields(FIELDS + 1), 400),
    "a chunk extension at the limit": (extension(4096), 200),
    "a chunk extension one over": (extension(4097), 400),
    "chunk extensions at the limit of all": (extensions(65), 200),
    "chunk extensions over the limit of all": (extensions(66), 400),
    "chunk extensions that are less than the content": (extensions(100, 1000), 200),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", SIZES)
async def test_the_size_of(
    worker: Worker, recording_backend: ScriptedBackend, case: str, bytewise: bool
) -> None:
    data, status = SIZES[case]
    await worker.serve(traffic(recording_backend.port))
    recording_backend.received.clear()
    answer = await request(worker.port, data, bytewise=bytewise)
    assert answer.status == status
    assert len(recording_backend.received) == (status == 200)


RESPONSE_SIZES: dict[str, tuple[bytes, int]] = {
    "a head at the limit": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"a" * 65497, 200),
    "a head one over": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"a" * 65498, 502),
    "fields at the limit": (response(b"", *["X: 1"] * 99).replace(b": 0", b": 2", 1)[:-4], 200),
    "fields one over": (response(b"", *["X: 1"] * 100).replace(b": 0", b": 2", 1)[:-4], 502),
}


@BOTH_WAYS
@pytest.mark.parametrize("case", RESPONSE_SIZES)
async def test_the_size_of_a_responses(worker: Worker, case: str, bytewise: bool) -> None:
    data, status = RESPONSE_SIZES[case]
    assert len(data) in (65536, 65537) or len(data) < 10000
    async with backend_sending(data + b"\r\n\r\nok", bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port))
        assert (await request(worker.port, get())).status == status


@BOTH_WAYS
async def test_the_sizes_are_those_of_the_settings(
    worker: Worker, recording_backend: ScriptedBackend, bytewise: bool
) -> None:
    limits = Limits(request_line_bytes=100, head_bytes=1024, head_fields=3)
    await worker.serve(traffic(recording_backend.port, settings=Settings(limits=limits)))
    for data, status in (
        (line(100), 200),
        (line(101), 414),
        (head(1024), 200),
        (head(1025), 431),
        (fields(3), 200),
        (fields(4), 431),
        (trailer(1024), 200),
        (trailer(1025), 400),
        (trailer_fields(3), 200),
        (trailer_fields(4), 400),
    ):
        assert (await request(worker.port, data, bytewise=bytewise)).status == status


@pytest.mark.parametrize(
    ("limits", "data", "status"),
    [
        (Limits(head_fields=3), fields(4), 431),
        (Limits(request_line_bytes=100), line(101), 414),
        (Limits(head_bytes=1024), head(1025), 431),
    ],
    ids=["fields", "a request line", "a head"],
)
async def test_a_change_of_the_sizes_is_in_force_on_connections_that_are_open(
    worker: Worker, recording_backend: ScriptedBackend, limits: Limits, data: bytes, status: int
) -> None:
    await worker.serve(traffic(recording_backend.port))
    async with await RawClient.connect(worker.port) as client:
        for _ in range(2):
            assert (await client.exchange(data)).status == 200
        await worker.serve(traffic(recording_backend.port, settings=Settings(limits=limits)))
        assert (await client.exchange(data)).status == status


async def test_empty_lines_before_a_request_are_no_part_of_its_size(
    worker: Worker, recording_backend: ScriptedBackend
) -> None:
    settings = Settings(limits=Limits(request_line_bytes=100, head_bytes=1024))
    await worker.serve(traffic(recording_backend.port, settings=settings))
    for before in (b"", b"\r", b"\r\n\r"):
        async with await RawClient.connect(worker.port) as client:
            await client.send(before)
            # So that the next bytes come by themselves.
            await asyncio.sleep(0.1)
            rest = b"\n" if before.endswith(b"\r") else b""
            assert (await client.exchange(rest + b"\r\n" * 2000 + get())).status == 200


@BOTH_WAYS
@pytest.mark.parametrize(("size", "status"), [(1024, 200), (1025, 502)])
async def test_the_sizes_of_responses_are_those_of_the_settings(
    worker: Worker, bytewise: bool, size: int, status: int
) -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: "
    data += b"a" * (size - len(data))
    async with backend_sending(data + b"\r\n\r\nok", bytewise=bytewise) as backend:
        await worker.serve(traffic(backend.port, settings=Settings(limits=Limits(head_bytes=1024))))
        assert (await request(worker.port, get())).status == status


async def test_a_request_that_comes_back_again_and_again_grows_until_it_is_refused(worker: Worker) -> None:
    await worker.serve(traffic(worker.port))
    # Each time it has one more Via.
    assert (await request(worker.port, get())).status == 431
