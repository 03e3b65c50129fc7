"""A new connection that ends, or is spoken on, before its request is sent is as good as none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from weldr.model.traffic import ServiceDelta, TrafficDelta
from weldr.model.values import Backend
from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
UNASKED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOCAL = ("10.9.9.9", 8080)


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def answer_of(loop: MemoryLoop, backends: list[Callable[[MemoryTransport], None]]) -> tuple[bytes, list[bytes]]:
    """What a client gets for a POST, and what each connection to a backend got.

    Each of `backends` does something with its connection in the turn in which that was made.
    """
    links: list[MemoryTransport] = []

    async def connect(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        protocol = factory()
        link = MemoryTransport(loop, protocol, peer=(host, port), local=LOCAL, limit=65536)
        links.append(link)
        loop.call_soon(backends[len(links) - 1], link)
        return link, protocol

    loop.connect = connect
    context = Context(loop, on_backend_idle=lambda: None)
    put = {f"b{number}": Backend(host=f"10.1.0.{number}", port=80) for number in range(len(backends))}
    context.fleet.apply(TrafficDelta(services={"default": ServiceDelta(policy=None, put=put, removed=[])}))
    client = MemoryTransport(loop, ClientConnection(context), peer=("10.0.0.1", 1), local=LOCAL, limit=65536)
    client.deliver(POST)
    loop.settle()
    assert not client.errors
    return bytes(client.received), [bytes(link.received) for link in links]


def test_the_next_backend_gets_what_was_not_sent(loop: MemoryLoop) -> None:
    shut, reset = MemoryTransport.deliver_eof, MemoryTransport.deliver_reset
    answer, received = answer_of(loop, [shut, reset, lambda link: link.deliver(UNASKED), lambda link: None])
    assert answer == b""
    assert received[:3] == [b"", b"", b""]
    assert received[3].startswith(b"POST / HTTP/1.1\r\n")
    assert received[3].endswith(b"\r\n\r\nabc")


def test_if_all_end_at_once_that_is_said(loop: MemoryLoop) -> None:
    answer, received = answer_of(loop, [MemoryTransport.deliver_eof] * 2)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"the backend closed the connection, or spoke, unasked" in answer
    assert received == [b"", b""]
