"""Small real HTTP servers that fail in each way that backends fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from enum import Enum

from tests.support.ports import free_port

_LIMIT_S = 30.0


class Fault(Enum):
    """What is wrong with a backend."""

    NONE = "none"
    ERROR = "error"
    """It answers 500."""
    BUSY = "busy"
    """It answers 503 and asks for 2 s of rest."""
    HANG = "hang"
    """It takes requests and does not answer; when that is over, it closes their connections."""
    RESET = "reset"
    """It resets the connection when a request comes."""
    TRUNCATE = "truncate"
    """It closes in the middle of the answer."""
    REFUSE = "refuse"
    """Nobody listens."""


class FaultyServer:
    """Answers with its name until told to fail. `/health` and all else may fail differently."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.checks = 0
        self._fault = Fault.NONE
        self._check_fault = Fault.NONE
        self._connections: set[asyncio.StreamWriter] = set()
        self._hanging: set[asyncio.Event] = set()
        self._server: asyncio.Server | None = None
        # Nobody else may get it while it refuses.
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fail(self, fault: Fault, check_fault: Fault | None = None) -> None:
        """Fail like this from now on, with checks too unless said otherwise."""
        self._call(self._set(fault, fault if check_fault is None else check_fault))

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_LIMIT_S)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)

    async def _set(self, fault: Fault, check_fault: Fault) -> None:
        self._fault, self._check_fault = fault, check_fault
        while self._hanging:
            self._hanging.pop().set()
        if fault is Fault.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
            for writer in list(self._connections):
                writer.transport.abort()
        elif fault is not Fault.REFUSE and self._server is None:
            await self._listen()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                is_check = head.split(b" ", 2)[1] == b"/health"
                self.checks += is_check
                self.requests += not is_check
                if not await self._answer(writer, self._check_fault if is_check else self._fault):
                    break
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, fault: Fault) -> bool:
        """Whether the connection goes on."""
        if fault is Fault.HANG:
            over = asyncio.Event()
            self._hanging.add(over)
            await over.wait()
            return False
        if fault is Fault.RESET:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        status, fields, length = b"200 OK", b"", len(self.name)
        if fault is Fault.ERROR:
            status = b"500 Broken"
        elif fault is Fault.BUSY:
            status, fields = b"503 Busy", b"Retry-After: 2\r\n"
        elif fault is Fault.TRUNCATE:
            length += 10
        writer.write(
            b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, fields, length, self.name.encode())
        )
        await writer.drain()
        return fault is not Fault.TRUNCATE

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)
        self._loop.close()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def faulty_servers(*names: str) -> Iterator[list[FaultyServer]]:
    """Several servers."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name in names:
            servers.append(FaultyServer(name))
            stack.callback(servers[-1].close)
        yield servers
