"""`python -m tests.soak.backend NAME PORT`: a backend that says which request it answers, and what it got.

The target says what is wanted: `/SIZE/FRAMING`, the framing `length`, `chunked` or `close`; `/echo` changes to
a protocol in which each byte is sent back.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from tests.soak.content import body_for, checksum

_PIECE_BYTES = 32 * 1024


class Connection:
    """One connection from weldr."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        """Answer each request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._exchange():
                pass
        self._writer.close()

    async def _exchange(self) -> bool:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *field_lines = head.split("\r\n")[:-2]
        fields = {
            name.lower(): value.strip() for name, _, value in (each.partition(":") for each in field_lines)
        }
        method, target, _ = line.split(" ")
        request_id = fields["x-soak-id"]
        got = await self._body(fields)
        told = f"X-Soak-Id: {request_id}\r\nX-Soak-Name: {self._name}\r\nX-Soak-Got: {checksum(got)}\r\n"
        if target == "/echo":
            await self._echo(told)
            return False
        _, size, framing = target.split("/")
        body = body_for(request_id, int(size))
        told += f"X-Soak-Sum: {checksum(body)}\r\n"
        await self._answer(told, body, framing, head_only=method == "HEAD")
        return framing != "close"

    async def _body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(fields.get("content-length", "0")))
        body = bytearray()
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return bytes(body)

    async def _answer(self, told: str, body: bytes, framing: str, *, head_only: bool) -> None:
        ends = {
            "length": f"Content-Length: {len(body)}\r\n",
            "chunked": "Transfer-Encoding: chunked\r\n",
            "close": "Connection: close\r\n",
        }
        self._writer.write(f"HTTP/1.1 200 OK\r\n{told}{ends[framing]}\r\n".encode("latin-1"))
        if head_only:
            return
        for position in range(0, len(body), _PIECE_BYTES):
            piece = body[position : position + _PIECE_BYTES]
            if framing == "chunked":
                self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self._writer.write(piece)
            await self._writer.drain()
        if framing == "chunked":
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _echo(self, told: str) -> None:
        upgraded = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n{told}\r\n"
        self._writer.write(upgraded.encode("latin-1"))
        while data := await self._reader.read(_PIECE_BYTES):
            self._writer.write(data)
            await self._writer.drain()


async def serve(name: str, port: int) -> None:
    """Until the process is killed."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(name, reader, writer).serve()

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
