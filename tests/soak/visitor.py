"""One client after the other, each behaving in one of several ways."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.soak.content import body_for, checksum
from tests.soak.reply import Pause, Reply, TruncatedError, no_pause, read_reply
from tests.soak.tally import Tally

_LIMIT_S = 40.0
_LINGER_ZERO = struct.pack("ii", 1, 0)


@dataclass
class Asked:
    """A request, and what has to come back."""

    id: str
    method: str
    size: int
    framing: str
    """Of the response, as the backend is asked for it."""
    upload: bytes
    wire: bytes
    started_s: float


class Visitor:
    """Comes again and again until told to stop."""

    def __init__(self, number: int, port: int, tally: Tally, chance: random.Random) -> None:
        self._number = number
        self._port = port
        self._tally = tally
        self._chance = chance
        self._count = 0
        self._ways: list[tuple[str, Callable[[], Awaitable[None]], int]] = [
            ("kept connection", self._kept, 10),
            ("connection for each", self._single, 6),
            ("pipelined", self._pipelined, 4),
            ("large download", self._large, 2),
            ("slow reader", self._slow, 3),
            ("abort", self._abort, 4),
            ("tunnel", self._tunnel, 2),
        ]

    async def come(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set."""
        weights = [weight for _, _, weight in self._ways]
        while not stopping.is_set():
            ((name, way, _),) = self._chance.choices(self._ways, weights)
            started_s = time.monotonic()
            try:
                async with asyncio.timeout(_LIMIT_S):
                    await way()
            except TruncatedError as error:
                self._tally.failure("cut off", started_s, name=error.name, detail=name)
            except ConnectionError as error:
                self._tally.failure("reset", started_s, detail=f"{name}: {error!r}")
            except TimeoutError:
                self._tally.error(f"{name}: nothing came for {_LIMIT_S:.0f} s")
            except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                self._tally.error(f"{name}: what came is no response: {error!r}")
            await asyncio.sleep(self._chance.random() * 0.02)

    # The ways.

    async def _kept(self) -> None:
        reader, writer = await self._connect()
        try:
            for _ in range(self._chance.randrange(1, 20)):
                asked = self._ask(self._chance.choice(("GET", "HEAD", "POST", "PUT")))
                writer.write(asked.wire)
                if self._check(asked, await read_reply(reader, asked.method)):
                    return
        finally:
            writer.close()

    async def _single(self) -> None:
        reader, writer = await self._connect()
        try:
            asked = self._ask("GET", version=self._chance.choice(("1.0", "1.1")), close=True)
            writer.write(asked.wire)
            reply = await read_reply(reader, asked.method)
            if not self._check(asked, reply):
                self._tally.error("a connection was kept that was to be closed")
        finally:
            writer.close()

    async def _pipelined(self) -> None:
        reader, writer = await self._connect()
        try:
            batch = [
                self._ask(self._chance.choice(("GET", "POST"))) for _ in range(self._chance.randrange(2, 6))
            ]
            writer.write(b"".join(asked.wire for asked in batch))
            for asked in batch:
                if self._check(asked, await read_reply(reader, asked.method)):
                    return
        finally:
            writer.close()

    async def _large(self) -> None:
        await self._download(self._chance.randrange(500_000, 4_000_000), no_pause)

    async def _slow(self) -> None:
        async def pause() -> None:
            await asyncio.sleep(0.02)

        await self._download(self._chance.randrange(500_000, 2_000_000), pause)

    async def _download(self, size: int, pause: Pause) -> None:
        reader, writer = await self._connect()
        try:
            asked = self._ask("GET", size=size)
            writer.write(asked.wire)
            self._check(asked, await read_reply(reader, asked.method, pause))
        finally:
            writer.close()

    async def _abort(self) -> None:
        """Leave in the middle of a request or of a response, with or without a reset."""
        reader, writer = await self._connect()
        try:
            asked = self._ask(self._chance.choice(("GET", "POST")), size=self._chance.randrange(1, 1_000_000))
            writer.write(asked.wire[: self._chance.randrange(1, len(asked.wire) + 1)])
            if self._chance.random() < 0.7:
                async with asyncio.timeout(self._chance.random() * 0.2):
                    await reader.read(self._chance.randrange(1, 200_000))
        except (TimeoutError, ConnectionError):
            pass
        finally:
            if self._chance.random() < 0.5:
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                writer.transport.abort()
            writer.close()
            self._tally.good["left in the middle"] += 1

    async def _tunnel(self) -> None:
        reader, writer = await self._connect()
        started_s = time.monotonic()
        request_id = self._new_id()
        try:
            fields = f"Host: soak\r\nX-Soak-Id: {request_id}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"
            writer.write(f"GET /echo HTTP/1.1\r\n{fields}\r\n".encode("ascii"))
            reply = await read_reply(reader, "GET")
            if reply.status != 101:
                self._refused(reply, started_s)
                return
            if reply.fields.get("x-soak-id") != request_id:
                self._tally.error("a crossed tunnel")
            for _ in range(self._chance.randrange(1, 10)):
                data = os.urandom(self._chance.randrange(1, 50_000))
                writer.write(data)
                try:
                    back = await reader.readexactly(len(data))
                except (asyncio.IncompleteReadError, ConnectionError):
                    raise TruncatedError(reply.fields["x-soak-name"]) from None
                if back != data:
                    self._tally.error("a tunnel changed what went through it")
            self._tally.good["tunnels"] += 1
        finally:
            writer.close()

    # What they share.

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    def _new_id(self) -> str:
        self._count += 1
        return f"{self._number}-{self._count}"

    def _ask(self, method: str, *, size: int | None = None, version: str = "1.1", close: bool = False) -> Asked:
        chance = self._chance
        request_id = self._new_id()
        if size is None:
            size = chance.choice((0, 1, 100, 5_000, 40_000))
        framing = chance.choice(("length", "chunked", "close"))
        fields = f"Host: {chance.choice(('soak', 'other'))}\r\nX-Soak-Id: {request_id}\r\n"
        if close:
            fields += "Connection: close\r\n"
        upload = b""
        coded = b""
        if method in ("POST", "PUT"):
            upload = coded = chance.randbytes(chance.choice((0, 10, 3_000, 200_000)))
            if chance.random() < 0.5:
                fields += "Transfer-Encoding: chunked\r\n"
                coded = _chunks(upload, chance)
            else:
                fields += f"Content-Length: {len(upload)}\r\n"
        head = f"{method} /{size}/{framing} HTTP/{version}\r\n{fields}\r\n".encode("ascii")
        return Asked(request_id, method, size, framing, upload, head + coded, time.monotonic())

    def _check(self, asked: Asked, reply: Reply) -> bool:
        """Count the reply; whether it is the last of its connection."""
        if reply.status != 200:
            self._refused(reply, asked.started_s)
            return reply.last
        if reply.fields.get("x-soak-id") != asked.id:
            self._tally.error(f"crossed: {asked.id} was answered with {reply.fields}")
        elif reply.fields["x-soak-got"] != checksum(asked.upload):
            self._tally.error(f"the upload of {asked.id} was changed")
        elif asked.method != "HEAD" and reply.body != body_for(asked.id, asked.size):
            self._wrong_body(asked, reply)
        else:
            self._tally.good[asked.method] += 1
        return reply.last

    def _wrong_body(self, asked: Asked, reply: Reply) -> None:
        got = f"{len(reply.body)} bytes of {asked.size}"
        if asked.framing == "close" and body_for(asked.id, asked.size).startswith(reply.body):
            # The connections of a backend that is killed are closed in good order, which ends such a body.
            name = reply.fields["x-soak-name"]
            self._tally.failure("cut off", asked.started_s, name=name, detail=f"a body without an end, {got}")
        else:
            self._tally.error(f"the body for {asked.id} is wrong, but looks complete: {got}")

    def _refused(self, reply: Reply, started_s: float) -> None:
        reason = reply.fields.get("proxy-status", "no reason")
        if reply.status == 502:
            self._tally.failure("502", started_s, detail=reason)
        else:
            self._tally.error(f"{reply.status}: {reason}: {reply.body[:200]!r}")


def _chunks(data: bytes, chance: random.Random) -> bytes:
    parts = []
    position = 0
    while position < len(data):
        piece = data[position : position + chance.randrange(1, 60_000)]
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        position += len(piece)
    return b"".join(parts) + b"0\r\n\r\n"
