"""Ten backends for each proxy, in one process of their own; the first of the ten fails on command."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from enum import Enum
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from types import TracebackType
from typing import cast

import uvloop

BACKENDS = 10
ANSWER_S = 0.005
SLOW = 10
_FLAP_S = 3.0


class Fault(Enum):
    """What goes wrong with a backend, its health checks included."""

    NONE = "none"
    FAILS = "fails"
    """Every answer is a 500."""
    STALLS = "stalls"
    """It takes requests and never answers."""
    RESETS = "resets"
    """It resets the connection when a request has come."""
    SLOWS = "slows tenfold"
    FLAPS = "flaps"
    """It fails for 3 s, works for 3 s, and so on."""
    DIES = "dies"
    """Nobody listens any more, and the open connections are reset."""


FAULTS = tuple(fault for fault in Fault if fault is not Fault.NONE)


def _answer(status: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\nok\n" % status


_GOOD, _BROKEN = _answer(b"200 OK"), _answer(b"500 Broken")


class _Backend:
    """One server."""

    def __init__(self) -> None:
        self.fault = Fault.NONE
        self.since_s = 0.0
        self.requests_s: list[float] = []
        """When each request came that was no check."""
        self.connections: set[_Connection] = set()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )
        self._server = server
        self.port = server.sockets[0].getsockname()[1]

    async def set(self, fault: Fault) -> None:
        self.fault, self.since_s = fault, time.monotonic()
        if fault is Fault.DIES and self._server is not None:
            self._server.close()
            self._server = None
            for connection in list(self.connections):
                connection.reset()
        elif fault is not Fault.DIES and self._server is None:
            await self.listen()

    @property
    def acute(self) -> Fault:
        """What is wrong at this moment."""
        if self.fault is not Fault.FLAPS:
            return self.fault
        return Fault.NONE if int((time.monotonic() - self.since_s) / _FLAP_S) % 2 else Fault.FAILS


class _Connection(asyncio.Protocol):
    def __init__(self, backend: _Backend) -> None:
        self._backend = backend
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._backend.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while self._data.find(b"\r\n\r\n") >= 0:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            if b" /health " not in head:
                self._backend.requests_s.append(time.monotonic())
            self._respond()

    def _respond(self) -> None:
        fault = self._backend.acute
        if fault is Fault.RESETS:
            self.reset()
        elif fault is not Fault.STALLS:
            answer = _BROKEN if fault is Fault.FAILS else _GOOD
            delay_s = ANSWER_S * SLOW if fault is Fault.SLOWS else ANSWER_S
            asyncio.get_running_loop().call_later(delay_s, self._write, answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)

    def reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class Origins:
    """The process, from outside. A group is the ten backends of one proxy."""

    def __init__(self, groups: int) -> None:
        self._pipe, theirs = Pipe()
        self._process = Process(target=_run, args=(theirs, groups), daemon=True)
        self._process.start()
        theirs.close()
        self.ports: list[list[int]] = self._pipe.recv()

    def set(self, fault: Fault) -> float:
        """The first backend of each group fails from now on; when that was."""
        return cast(float, self._ask(fault))

    def requests_s(self) -> list[list[float]]:
        """When requests came to the first backend of each group, since the last call."""
        return cast(list[list[float]], self._ask(None))

    def _ask(self, question: Fault | None) -> object:
        self._pipe.send(question)
        return self._pipe.recv()

    def __enter__(self) -> Origins:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


def _run(pipe: Connection, groups: int) -> None:
    uvloop.run(_serve(pipe, groups))


async def _serve(pipe: Connection, groups: int) -> None:
    backends = [[_Backend() for _ in range(BACKENDS)] for _ in range(groups)]
    for group in backends:
        for backend in group:
            await backend.listen()
    pipe.send([[backend.port for backend in group] for group in backends])
    receive: Callable[[], object] = pipe.recv
    while True:
        try:
            question = await asyncio.get_running_loop().run_in_executor(None, receive)
        except EOFError:
            return
        if isinstance(question, Fault):
            for group in backends:
                await group[0].set(question)
            pipe.send(time.monotonic())
        else:
            pipe.send([group[0].requests_s for group in backends])
            for group in backends:
                group[0].requests_s = []
