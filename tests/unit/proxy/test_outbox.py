"""Each transport gets what was put for it, in order, once, at the end of the turn or when there is much."""

from __future__ import annotations

import asyncio
from typing import Any

from weldr.proxy.flow import SMALL_BYTES, write_parts
from weldr.proxy.outbox import Outbox


class Transport:
    """What the outbox needs of one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.written: list[bytes] = []
        self.closing = False
        self.error = error

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.written.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.written += parts

    def abort(self) -> None:
        self.closing = True


async def test_what_a_turn_puts_is_sent_when_it_ends() -> None:
    faults: list[BaseException] = []
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: faults.append(error))
    one: Any = Transport()
    other: Any = Transport()
    outbox.put(one, b"1")
    outbox.put(other, b"2")
    outbox.put(one, b"3")
    assert one.written == other.written == []
    await asyncio.sleep(0)
    assert (one.written, other.written) == ([b"1", b"3"], [b"2"])
    await asyncio.sleep(0)
    outbox.put(one, b"4")
    await asyncio.sleep(0)
    assert one.written == [b"1", b"3", b"4"]
    assert faults == []


async def test_much_is_sent_before_the_turn_ends() -> None:
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: None)
    transport: Any = Transport()
    for number in range(1000):
        outbox.put(transport, b"%d" % number)
    assert len(transport.written) > 900
    await asyncio.sleep(0)
    assert transport.written == [b"%d" % number for number in range(1000)]


async def test_what_is_large_goes_at_once_and_behind_what_is_small() -> None:
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: None)
    transport: Any = Transport()
    large = b"x" * (SMALL_BYTES + 1)
    write_parts(outbox, transport, [b"a", b"b"])
    assert transport.written == []
    write_parts(outbox, transport, [large])
    assert transport.written == [b"ab", large]


async def test_a_transport_that_fails_or_is_closed_harms_no_other() -> None:
    faults: list[tuple[str, BaseException]] = []
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: faults.append((where, error)))
    error = RuntimeError("broken")
    broken: Any = Transport(error)
    closed: Any = Transport()
    good: Any = Transport()
    closed.abort()
    for transport in (broken, closed, good):
        outbox.put(transport, b"x")
    await asyncio.sleep(0)
    assert faults == [("outbox", error)]
    assert broken.closing
    assert (closed.written, good.written) == ([], [b"x"])


class Sender:
    """Who puts something, and notes what is given back."""

    def __init__(self) -> None:
        self.given_back: list[bytes] = []

    def unsent(self, data: bytes) -> None:
        self.given_back.append(data)


async def test_a_request_that_was_not_sent_is_given_back() -> None:
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: None)
    closed: Any = Transport()
    closed.abort()
    open_one: Any = Transport()
    unsent, sent = Sender(), Sender()
    for data in (b"1", b"2"):
        outbox.put_request(closed, data, unsent)
        outbox.put_request(open_one, data, sent)
    await asyncio.sleep(0)
    assert (closed.written, unsent.given_back) == ([], [b"12"])
    assert (b"".join(open_one.written), sent.given_back) == (b"12", [])
    outbox.put_request(closed, b"3", unsent)
    outbox.flush_of(closed)
    assert unsent.given_back == [b"12", b"3"]


async def test_requests_wait_for_the_end_of_the_turn_unless_there_is_much_of_them() -> None:
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: None)
    many: list[Any] = [Transport() for _ in range(1024)]
    for transport in many[:-1]:
        outbox.put_request(transport, b"x", Sender())
    assert not any(transport.written for transport in many)
    outbox.put_request(many[-1], b"x", Sender())
    assert all(transport.written == [b"x"] for transport in many)
    large: list[Any] = [Transport() for _ in range(9)]
    for transport in large:
        outbox.put_request(transport, bytes(1 << 20), Sender())
    assert [len(transport.written) for transport in large] == [1] * 8 + [0]


async def test_a_request_goes_behind_what_belongs_to_the_one_before() -> None:
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: None)
    one: Any = Transport()
    other: Any = Transport()
    for transport in (one, other):
        outbox.put(transport, b"end")
        outbox.put_request(transport, b"next", Sender())
    outbox.flush_of(one)
    assert (one.written, other.written) == ([b"end", b"next"], [])
    await asyncio.sleep(0)
    assert other.written == [b"end", b"next"]
