"""Small real HTTP servers in a thread of their own, and a load of requests against a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

_LIMIT_S = 30.0


class NamedServer:
    """Answers every request with its name. `hold()` lets requests wait until released."""

    def __init__(self, name: str, port: int = 0, delay_s: float = 0.0) -> None:
        self.name = name
        self._delay_s = delay_s
        self.connections = 0
        """How many were made to it."""
        self.requests = 0
        self.waiting = 0
        self._gate = asyncio.Event()
        self._gate.set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(port,), daemon=True)
        self._thread.start()
        assert self._ready.wait(_LIMIT_S)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self, port: int) -> None:
        self._loop.run_until_complete(self._start(port))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _start(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._ready.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        body = self.name.encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self.waiting += 1
                await self._gate.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                self.waiting -= 1
                writer.write(answer)
                await writer.drain()
        writer.close()

    def hold(self) -> None:
        """Let requests wait from now on."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def release(self) -> None:
        """Answer those that wait, and all others."""
        self._loop.call_soon_threadsafe(self._gate.set)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT_S)

    def __enter__(self) -> NamedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Answer:
    """One request's outcome. `body` is the name of the server that answered; empty if none did."""

    client_port: int
    started_s: float
    ended_s: float
    status: int
    body: str
    error: str = ""


@dataclass
class Load:
    """Requests on kept connections, one after the other on each, until stopped."""

    address: str
    connections: int
    method: str = "GET"
    kept: bool = True
    """Whether a connection takes more than one request."""
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> Load:
        self._thread.start()
        return self

    def stop(self) -> list[Answer]:
        self._stop.set()
        self._thread.join(2 * _LIMIT_S)
        assert not self._thread.is_alive(), "a request of the load never ended"
        return self.answers

    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def names_since(self, moment_s: float) -> set[str]:
        """The servers that answered requests which began after that moment."""
        return {answer.body for answer in self.answers if answer.started_s >= moment_s}

    async def _run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(self.connections)))

    async def _client(self) -> None:
        host, _, port = self.address.rpartition(":")
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError as error:
                self.answers.append(Answer(0, started, time.monotonic(), 0, "", repr(error)))
                await asyncio.sleep(0.05)
                continue
            try:
                await self._requests(reader, writer)
            finally:
                writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client_port = writer.get_extra_info("sockname")[1]
        length = "Content-Length: 0\r\n" if self.method == "POST" else ""
        request = f"{self.method} /load HTTP/1.1\r\nHost: test\r\n{length}\r\n".encode()
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                writer.write(request)
                async with asyncio.timeout(_LIMIT_S):
                    status, closing, body = await read_response(reader)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.answers.append(Answer(client_port, started, time.monotonic(), 0, "", repr(error)))
                return
            self.answers.append(Answer(client_port, started, time.monotonic(), status, body))
            if closing or not self.kept:
                return


async def read_response(reader: asyncio.StreamReader) -> tuple[int, bool, str]:
    """Status, whether the connection is to be closed, and the body of a Content-Length response."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = (await reader.readexactly(length)).decode()
    return int(head.split(" ", 2)[1]), "connection: close" in head, body


@contextlib.contextmanager
def named_servers(*names: str) -> Iterator[list[NamedServer]]:
    """Several servers."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(NamedServer(name)) for name in names]
