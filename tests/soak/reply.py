"""Reading a response strictly, at any speed, and knowing who sent it even if it ends too early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_PIECE_BYTES = 16 * 1024

Pause = Callable[[], Awaitable[None]]


class TruncatedError(Exception):
    """The connection ended before the response did. `name` is the backend's, if its head had come."""

    def __init__(self, name: str | None) -> None:
        super().__init__("cut off")
        self.name = name


@dataclass
class Reply:
    """A response."""

    status: int
    fields: dict[str, str]
    body: bytes = b""

    @property
    def last(self) -> bool:
        """Whether the connection ends after it."""
        return self.fields.get("connection") == "close"


async def no_pause() -> None:
    pass


async def read_reply(reader: asyncio.StreamReader, method: str, pause: Pause = no_pause) -> Reply:
    """The next response, with a `pause` between its pieces.

    Raises `TruncatedError`; `ValueError` if it is no response.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        raise TruncatedError(None) from None
    reply = _head(head)
    try:
        reply.body = await _body(reader, method, reply, pause)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise TruncatedError(reply.fields.get("x-soak-name")) from None
    return reply


def _head(head: bytes) -> Reply:
    status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    version, status, _ = status_line.split(" ", 2)
    if version != "HTTP/1.1":
        raise ValueError(f"no status line: {status_line!r}")
    fields = [line.split(": ", 1) for line in lines]
    found = {name.lower(): value for name, value in fields}
    if len(found) != len(fields):
        raise ValueError(f"a field twice: {head!r}")
    return Reply(int(status), found)


async def _body(reader: asyncio.StreamReader, method: str, reply: Reply, pause: Pause) -> bytes:
    if method == "HEAD" or reply.status == 101:
        return b""
    if reply.fields.get("transfer-encoding") == "chunked":
        body = bytearray()
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await _exactly(reader, size, pause)
            if await reader.readexactly(2) != b"\r\n":
                raise ValueError("a chunk does not end where it should")
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("a trailer that nobody sent")
        return bytes(body)
    if "content-length" in reply.fields:
        return await _exactly(reader, int(reply.fields["content-length"]), pause)
    return await reader.read(-1)


async def _exactly(reader: asyncio.StreamReader, size: int, pause: Pause) -> bytes:
    body = bytearray()
    while len(body) < size:
        body += await reader.readexactly(min(_PIECE_BYTES, size - len(body)))
        await pause()
    return bytes(body)
