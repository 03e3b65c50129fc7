"""A worker accepts whenever there is room, whatever was in the way before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Any

import uvloop

from weldr.proxy.acceptor import Acceptor
from weldr.proxy.context import Context


class Client:
    """One that is there."""

    def drain(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Listener:
    """Has no copy made of itself while there are no descriptors."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fails = False

    def dup(self) -> socket.socket:
        if self.fails:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.sock.dup()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


async def is_accepted(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        async with asyncio.timeout(0.2):
            return bool(await reader.read(1))
    except TimeoutError:
        return False
    finally:
        writer.close()


async def test_accepting_begins_again_when_there_was_no_descriptor_for_it() -> None:
    context = Context(asyncio.get_running_loop(), on_backend_idle=lambda: None)
    context.connections = 1
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        listener: Any = Listener(sock)
        acceptor = Acceptor(context, [listener])
        await acceptor.start()
        client = Client()
        context.clients.add(client)
        await asyncio.sleep(0.01)
        listener.fails = True
        context.clients.discard(client)
        await asyncio.sleep(0.01)
        listener.fails = False
        # As in each sweep.
        acceptor.keep_to_limit()
        await asyncio.sleep(0.01)
        assert await is_accepted(sock.getsockname()[1])
        await acceptor.drain()


async def test_accepting_begins_later_when_there_is_no_descriptor_for_it_at_the_start() -> None:
    context = Context(asyncio.get_running_loop(), on_backend_idle=lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        listener: Any = Listener(sock)
        acceptor = Acceptor(context, [listener])
        listener.fails = True
        with contextlib.suppress(OSError):
            await acceptor.start()
        listener.fails = False
        # As in each sweep.
        acceptor.keep_to_limit()
        await asyncio.sleep(0.01)
        assert await is_accepted(sock.getsockname()[1])
        await acceptor.drain()


def test_who_waits_in_the_queue_is_not_accepted_to_be_refused() -> None:
    uvloop.run(accept_in_one_turn())


async def accept_in_one_turn() -> None:
    context = Context(asyncio.get_running_loop(), on_backend_idle=lambda: None)
    context.connections = 4
    with socket.create_server(("127.0.0.1", 0)) as sock, contextlib.ExitStack() as stack:
        sock.setblocking(False)
        acceptor = Acceptor(context, [sock])
        clients = [stack.enter_context(socket.create_connection(sock.getsockname())) for _ in range(40)]
        await acceptor.start()
        await asyncio.sleep(0.1)
        refused = 0
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                refused += client.recv(1) == b"H"
        assert context.client_limit == 3
        # Of four that came in the same turn of the event loop.
        assert refused <= 3
        await acceptor.drain(handed_on=[0])
