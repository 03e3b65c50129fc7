"""Why there is no connection to a backend, and whom that speaks against."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fuzz.loop import MemoryLoop
from tests.fuzz.transport import MemoryTransport
from tests.support.memory_worker import LOCAL, MemoryWorker
from weldr.model.health import Ejection
from weldr.model.values import Service

# What comes of looking up a name without a descriptor, by the C library and uvloop.
BUSY = OSError(errno.EBUSY, "Device or resource busy")
INVALID = OSError(errno.EINVAL, "Invalid argument")
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def loop() -> Iterator[MemoryLoop]:
    loop = MemoryLoop()
    yield loop
    loop.close()


def answer(loop: MemoryLoop, error: OSError, *, descriptors: bool) -> tuple[bytes, int]:
    """What a client gets when no backend is connected to, for this error, and how many are in rotation then."""
    worker = MemoryWorker(loop, Service(ejection=Ejection(consecutive_failures=1)), backends=2)
    worker.held = []
    client = worker.client()
    client.deliver(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
    loop.settle()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        while worker.held:
            worker.held.pop().set_exception(error)
            loop.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    worker.pass_time(1)
    return client.received[:12], len(worker.context.fleet.table.services["default"].members)


@pytest.mark.parametrize("error", [BUSY, INVALID, AGAIN])
def test_a_name_that_is_not_looked_up_for_want_of_descriptors_speaks_against_no_backend(
    loop: MemoryLoop, error: OSError
) -> None:
    assert answer(loop, error, descriptors=False) == (b"HTTP/1.1 503", 2)


@pytest.mark.parametrize("error", [INVALID, AGAIN])
def test_with_descriptors_the_same_errors_do(loop: MemoryLoop, error: OSError) -> None:
    assert answer(loop, error, descriptors=True) == (b"HTTP/1.1 502", 1)


def test_a_connection_that_is_made_as_its_time_ends_is_not_watched_for_ever(loop: MemoryLoop) -> None:
    worker = MemoryWorker(loop, Service(), backends=1)

    async def made_late(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Any:
        MemoryTransport(loop, factory(), peer=(host, port), local=LOCAL, limit=65536)
        # As uvloop does, which closes its socket then and no more.
        await loop.create_future()

    client = worker.client()
    loop.connect = made_late
    client.deliver(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    loop.settle()
    worker.pass_time(5)
    assert client.received.startswith(b"HTTP/1.1 504")
    client.deliver_eof()
    worker.pass_time(5)
    assert not worker.context.deadlines._watched
