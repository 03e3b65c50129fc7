"""Accepting connections on the sockets that the manager opened."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context

logger = logging.getLogger(__name__)

_BACKLOG = 4096
"""That of the manager: each call of listen() sets it anew."""


class Acceptor:
    """Owns the listening sockets."""

    def __init__(self, context: Context, listeners: list[socket.socket]) -> None:
        self._context = context
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        # A drain that comes while it starts must not leave one socket accepting.
        self._one_at_a_time = asyncio.Lock()

    async def start(self) -> None:
        """Accept from now on."""
        async with self._one_at_a_time:
            for listener in self._listeners:
                server = await self._context.loop.create_server(
                    self._connection, sock=listener, backlog=_BACKLOG
                )
                self._servers.append(server)

    def _connection(self) -> ClientConnection:
        return ClientConnection(self._context)

    async def drain(self) -> None:
        """Accept all that have connected already, then stop.

        A closed listening socket would drop the connections that are queued on it.
        """
        accepted: list[socket.socket] = []
        async with self._one_at_a_time:
            if self._servers:
                for listener in self._listeners:
                    accepted += _accept_all(listener)
            for server in self._servers:
                server.close()
        for connection in accepted:
            with contextlib.suppress(OSError):
                await self._context.loop.connect_accepted_socket(self._connection, connection)


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return accepted
        except OSError as error:
            logger.warning("queued connections could not be accepted", extra={"reason": str(error)})
            return accepted
        accepted.append(connection)
