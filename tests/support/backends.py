"""Backends that do exactly what a test scripts, byte by byte, and keep what they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_S = 30.0


@dataclass
class Received:
    """A request as a backend got it. `fields` as they were on the wire, in their order."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    raw_head: bytes = b""

    def get(self, name: str) -> str | None:
        """The values of a field, joined; `None` if it is absent."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


def _queues(own: tuple[str, int], other: tuple[str, int]) -> tuple[int, int]:
    """Bytes that the IPv4 socket between these addresses has to send, and to be read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(field.partition(":")[2], 16) for field in fields[1:3]] == [own[1], other[1]]:
            sending, _, receiving = fields[4].partition(":")
            return int(sending, 16), int(receiving, 16)
    return 0, 0


def unsent(own: tuple[str, int], other: tuple[str, int]) -> int:
    return _queues(own, other)[0]


def unread(own: tuple[str, int], other: tuple[str, int]) -> int:
    return _queues(own, other)[1]


class BackendConnection:
    """A connection from the proxy, as a script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number
        """Of this backend's connections, from 1."""
        self.ended = asyncio.Event()
        """Set when its script is over."""

    async def head(self) -> Received | None:
        """The next request's head; `None` at the end of the connection."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        line, *lines = raw[:-4].decode("latin-1").split("\r\n")
        fields = []
        for each in lines:
            name, _, value = each.partition(":")
            fields.append((name, value.strip()))
        return Received(line, fields, raw_head=raw)

    async def body(self, received: Received) -> bytes:
        """The body that belongs to the head."""
        if received.get("transfer-encoding") == "chunked":
            body = bytearray()
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                if size == 0:
                    await self.reader.readexactly(2)
                    break
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            received.body = bytes(body)
        else:
            received.body = await self.reader.readexactly(int(received.get("content-length") or 0))
        return received.body

    async def request(self) -> Received | None:
        """The next whole request."""
        received = await self.head()
        if received is not None:
            await self.body(received)
        return received

    @property
    def unread(self) -> bytes:
        """What has come and was not read."""
        return bytes(self.reader._buffer)  # type: ignore[attr-defined]

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_bytewise(self, data: bytes) -> None:
        for position in range(len(data)):
            self.writer.write(data[position : position + 1])
            await asyncio.sleep(0)

    async def until_read(self) -> None:
        """Wait until the other side's program has read all that was sent: a RST would take the rest away."""
        own, other = self.writer.get_extra_info("sockname"), self.writer.get_extra_info("peername")
        async with asyncio.timeout(LIMIT_S):
            # Sent and acknowledged, then read: the kernel counts both.
            while unsent(own, other) or unread(other, own):  # noqa: ASYNC110 - the kernel sends no event
                await asyncio.sleep(0.005)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[BackendConnection], Awaitable[None]]


@dataclass
class ScriptedBackend:
    """Runs its script for each connection."""

    port: int
    server: asyncio.Server
    connections: list[BackendConnection] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    """Filled by the scripts below; others may."""

    async def stop_listening(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        self.server.close()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def scripted_backend(
    script: Script, *, port: int = 0, backlog: int = 1024
) -> AsyncIterator[ScriptedBackend]:
    """A backend on a free port of 127.0.0.1."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        connection = BackendConnection(reader, writer, len(backend.connections) + 1)
        backend.connections.append(connection)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await script(connection)
        connection.ended.set()
        with contextlib.suppress(ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 20, backlog=backlog)
    backend = ScriptedBackend(server.sockets[0].getsockname()[1], server)
    try:
        yield backend
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        for connection in backend.connections:
            connection.writer.transport.abort()


async def echo_tunnel(connection: BackendConnection) -> None:
    """A script: upgrade the first request, and send back what comes."""
    await connection.request()
    await connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    while data := await connection.reader.read(100):
        await connection.send(data)


def response(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """The bytes of a response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@contextlib.asynccontextmanager
async def answering_backend(answer: bytes | None = None, *, port: int = 0) -> AsyncIterator[ScriptedBackend]:
    """Answers each request with the same bytes, `ok` if none are given, and keeps the requests."""
    data = response() if answer is None else answer

    async def script(connection: BackendConnection) -> None:
        while (received := await connection.request()) is not None:
            backend.received.append(received)
            await connection.send(data)

    async with scripted_backend(script, port=port) as backend:
        yield backend


@contextlib.asynccontextmanager
async def backend_sending(data: bytes, *, bytewise: bool = False) -> AsyncIterator[ScriptedBackend]:
    """Answers the first request of each connection with these bytes and closes."""

    async def script(connection: BackendConnection) -> None:
        received = await connection.request()
        if received is None:
            return
        backend.received.append(received)
        if bytewise:
            await connection.send_bytewise(data)
        else:
            await connection.send(data)

    async with scripted_backend(script) as backend:
        yield backend
