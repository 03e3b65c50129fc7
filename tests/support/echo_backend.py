"""`python -m tests.support.echo_backend HOST:PORT [NAMESPACE…]`: answers requests, and echoes in tunnels."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

from tests.hosts.namespaces import inside

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class _Backend(asyncio.Protocol):
    def __init__(self) -> None:
        self._input = b""
        self._tunnel = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            self._transport.write(data)
            return
        self._input += data
        while not self._tunnel and b"\r\n\r\n" in self._input:
            head, _, self._input = self._input.partition(b"\r\n\r\n")
            self._tunnel = b"\r\nupgrade: echo" in head.lower()
            self._transport.write(_SWITCH if self._tunnel else _ANSWER)


async def _serve(address: str, namespaces: list[str]) -> None:
    host, _, port = address.rpartition(":")
    places: list[contextlib.AbstractContextManager[object]] = [inside(name) for name in namespaces]
    listener = None
    for place in places or [contextlib.nullcontext()]:
        with place:
            listener = socket.create_server((host, int(port)), backlog=1024)
        await asyncio.get_running_loop().create_server(_Backend, sock=listener)
    assert listener is not None
    print(listener.getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2:]))
