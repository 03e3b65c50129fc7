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


class Failing(Transport):
    """It is closing once something was written."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.closing = True


async def test_what_was_not_sent_is_given_back_unless_a_part_was() -> None:
    outbox = Outbox(asyncio.get_running_loop().call_soon, lambda where, error: None)
    closed: Any = Transport()
    closed.abort()
    failing: Any = Failing()
    none, part = Sender(), Sender()
    for data in (b"1", b"2"):
        outbox.put(closed, data, none)
        outbox.put(failing, data, part)
    await asyncio.sleep(0)
    assert (closed.written, none.given_back) == ([], [b"12"])
    assert (failing.written, part.given_back) == ([b"1"], [])
