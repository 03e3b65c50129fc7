"""The channel between the manager and a worker."""

from __future__ import annotations

import struct

import pytest

from tests.support.backends import answering_backend
from tests.support.http import RawClient, get
from tests.support.worker import Worker, traffic


@pytest.mark.parametrize(
    "broken",
    [struct.pack(">I", 5) + b"hello", struct.pack(">I", 0xFFFFFFFF), struct.pack(">I", 1) + b"\x80"],
    ids=["no frame", "a length over the limit", "an empty object"],
)
async def test_a_broken_frame_ends_the_worker_after_what_is_under_way(worker: Worker, broken: bytes) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(get())
            worker.writer.write(broken)
            assert await client.is_closed()
        assert await worker.wait() == 1
    assert "the manager's frame cannot be read" in worker.log


async def test_it_says_every_second_that_it_is_alive_and_what_it_has_done(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        async with await RawClient.connect(worker.port) as client:
            for _ in range(3):
                await client.exchange(get())
        await worker.serve(traffic())
        async with await RawClient.connect(worker.port) as client:
            await client.exchange(get())
        beat = await worker.wait_for(lambda: next((each for each in worker.beats if each.requests == 4), None))
        assert beat is not None
        assert (beat.connections, beat.requests, beat.in_flight) == (2, 4, 0)


async def test_every_update_is_acknowledged(worker: Worker) -> None:
    for _ in range(50):
        worker.send(traffic())
    await worker.wait_for(lambda: len(worker.applied) == 50)
    assert [applied.revision for applied in worker.applied] == list(range(1, 51))


async def test_a_manager_that_does_not_read_does_not_fill_the_workers_memory(worker: Worker) -> None:
    async with answering_backend() as backend:
        await worker.serve(traffic(backend.port))
        worker.writer.transport.pause_reading()
        before = worker.rss_bytes
        async with await RawClient.connect(worker.port) as client:
            for _ in range(300):
                assert (await client.exchange(get())).status == 200
        worker.writer.transport.resume_reading()
        assert worker.rss_bytes - before < 16 * 1024 * 1024
