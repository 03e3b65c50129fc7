"""`python -m tests.hosts.backend ADDRESS:PORT NAMESPACE…`: an HTTP server in each. It answers the path."""

from __future__ import annotations

import asyncio
import socket
import sys

from tests.hosts.namespaces import inside


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ", 2)[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
            if b"\r\nConnection: close\r\n" in head:
                return
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


async def _serve(address: str, namespaces: list[str]) -> None:
    host, _, port = address.rpartition(":")
    for namespace in namespaces:
        with inside(namespace):
            listener = socket.create_server((host, int(port)), backlog=1024)
        await asyncio.start_server(_answer, sock=listener)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2:]))
