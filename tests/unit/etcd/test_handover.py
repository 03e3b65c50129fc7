"""The bounded buffer between reading and using."""

from __future__ import annotations

import asyncio

import pytest

from weldr.etcd.handover import Handover


async def test_items_come_out_in_order_and_all_at_once() -> None:
    handover: Handover[int] = Handover(10, 100)
    for number in range(5):
        await handover.put(number, 1)
    assert await handover.take() == [0, 1, 2, 3, 4]


async def test_a_full_buffer_makes_the_writer_wait() -> None:
    handover: Handover[int] = Handover(2, 100)

    async def write() -> None:
        for number in range(7):
            await handover.put(number, 1)

    writing = asyncio.create_task(write())
    taken: list[int] = []
    while len(taken) < 7:
        items = await asyncio.wait_for(handover.take(), 30)
        assert len(items) <= 2
        taken += items
    await writing
    assert taken == list(range(7))


async def test_a_put_that_is_cancelled_has_put_nothing() -> None:
    handover: Handover[int] = Handover(1, 100)
    await handover.put(1, 1)
    waiting = asyncio.create_task(handover.put(2, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await handover.take() == [1]
    await handover.put(3, 1)
    assert await handover.take() == [3]


async def test_the_end_comes_after_the_items() -> None:
    handover: Handover[int] = Handover(10, 100)
    await handover.put(1, 1)
    handover.end(ValueError("over"))
    assert await handover.take() == [1]
    with pytest.raises(ValueError, match="over"):
        await handover.take()


async def test_a_buffer_that_is_full_by_size_makes_the_writer_wait_and_says_so() -> None:
    handover: Handover[str] = Handover(10, 100)
    await handover.put("larger than all there is room for", 500)
    waiting = asyncio.create_task(handover.put("small", 1))
    await asyncio.sleep(0)
    assert handover.blocked
    assert await handover.take() == ["larger than all there is room for"]
    await waiting
    assert not handover.blocked
    await handover.put("fits", 99)
    assert await handover.take() == ["small", "fits"]
