"""A client that writes exactly the bytes it is given, and reads a response strictly."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

LIMIT_S = 30.0


class IncompleteResponseError(Exception):
    """The connection ended before the response did. `got` is what had come."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"the response is not complete: {got[-200:]!r}")
        self.got = got


@dataclass
class Response:
    """A response as it was on the wire. Field names are in lower case."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    interim: list[Response] = field(default_factory=list)
    closed: bool = False
    """Whether its body ended with the connection."""

    @property
    def proxy_status(self) -> str | None:
        """The `Proxy-Status` field without what is another each time."""
        value = self.get("proxy-status")
        return None if value is None else value.partition("; details=")[0].partition("; request-id=")[0]

    def get(self, name: str) -> str | None:
        """The values of a field, joined; `None` if it is absent."""
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1") -> RawClient:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        return cls(reader, writer)

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes, *, bytewise: bool = False) -> None:
        """Send `data`, in one piece or each byte by itself."""
        if not bytewise:
            self.writer.write(data)
            await self.writer.drain()
            return
        for position in range(len(data)):
            if self.writer.transport.is_closing():
                return
            self.writer.write(data[position : position + 1])
            await asyncio.sleep(0)

    async def receive(self, *, method: str = "GET") -> Response:
        """The next final response, with the interim ones before it.

        Raises `IncompleteResponseError`.
        """
        interim = []
        async with asyncio.timeout(LIMIT_S):
            while True:
                response = await self.receive_head()
                if response.status >= 200 or response.status == 101:
                    break
                interim.append(response)
            response.interim = interim
            await self._body(response, method)
        return response

    async def receive_head(self) -> Response:
        """The next head, of an interim or a final response.

        Raises `IncompleteResponseError`.
        """
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise IncompleteResponseError(error.partial) from None
        except ConnectionError:
            raise IncompleteResponseError(b"") from None
        lines = head[:-4].decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", head
        fields = []
        for line in lines[1:]:
            name, separator, value = line.partition(":")
            assert separator, head
            assert name == name.strip(), head
            fields.append((name.lower(), value.strip()))
        return Response(int(status), fields)

    async def _body(self, response: Response, method: str) -> None:
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        length = response.get("content-length")
        try:
            if response.get("transfer-encoding") == "chunked":
                assert length is None
                response.body = await self._chunks()
            elif length is not None:
                response.body = await self.reader.readexactly(int(length))
            else:
                response.closed = True
                response.body = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            raise IncompleteResponseError(error.partial) from None
        except ConnectionError:
            raise IncompleteResponseError(b"") from None

    async def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            if size == 0:
                assert await self.reader.readexactly(2) == b"\r\n"
                return bytes(body)
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"

    async def exchange(self, data: bytes, *, bytewise: bool = False) -> Response:
        """Send a request and receive its response."""
        await self.send(data, bytewise=bytewise)
        return await self.receive(method=data.partition(b" ")[0].decode("latin-1"))

    def reset(self) -> None:
        """Close with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def receive_rest(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()

    async def is_closed(self) -> bool:
        """Wait for the end of the connection; whether nothing came before it."""
        try:
            return await self.receive_rest() == b""
        except ConnectionError:
            return True


async def request(port: int, data: bytes, *, bytewise: bool = False) -> Response:
    """One request on a connection of its own."""
    async with await RawClient.connect(port) as client:
        return await client.exchange(data, bytewise=bytewise)


def get(path: str = "/", host: str = "test", *fields: str) -> bytes:
    """The bytes of a GET."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")
