"""Accepting connections on the sockets that the manager opened, as long as there is room for them.

While the worker has as many clients as it may, it does not accept: the others wait in the system's queue. Those
that were accepted in the same turn as the last one get a 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Collection

from weldr.proxy.client_connection import ClientConnection
from weldr.proxy.context import Context

logger = logging.getLogger(__name__)

_BACKLOG = 4096
"""That of the manager: each call of listen() sets it anew."""
_ACCEPTED_PER_TURN = 4
"""libuv accepts one connection on a descriptor in each turn of the event loop. Where many wait, the turns cost
more than the rest: so each listening socket is there under so many descriptors."""
_ROOM = 0.95
"""It accepts again when there are fewer clients than this part of the limit, so as not to turn on and off."""
_HANDSHAKE_S = 0.1
"""How long, when the worker drains, it accepts connections whose handshake was under way when that began."""


class Acceptor:
    """Owns the listening sockets."""

    def __init__(self, context: Context, listeners: list[socket.socket]) -> None:
        self._context = context
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        self._started = False
        self._draining = False
        self._paused = False
        # Starting, pausing and draining must not overlap: one socket could be left accepting.
        self._one_at_a_time = asyncio.Lock()
        context.clients.on_change = self.keep_to_limit

    async def start(self) -> None:
        """Accept from now on."""
        self._started = True
        await self._adjust()

    @property
    def descriptors(self) -> int:
        """How many the listening sockets take while it accepts."""
        return len(self._listeners) * (1 + _ACCEPTED_PER_TURN)

    async def _listen(self) -> None:
        for listener in self._listeners:
            for _ in range(_ACCEPTED_PER_TURN):
                # A copy, since closing the server closes its socket. The queue belongs to all copies alike.
                server = await self._context.loop.create_server(
                    self._connection, sock=listener.dup(), backlog=_BACKLOG
                )
                self._servers.append(server)

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _connection(self) -> ClientConnection:
        return ClientConnection(self._context)

    def keep_to_limit(self) -> None:
        """Stop accepting, or begin again, as there is room: the limit changes by itself, too."""
        limit, count = self._context.client_limit, len(self._context.clients)
        if self._paused:
            if count < limit * _ROOM or count == 0:
                self._paused = False
                self._context.spawn(self._adjust(), "accept")
        elif count >= limit:
            self._paused = True
            self._context.warn("as many clients as may be: no more are accepted", key="clients", clients=count)
            if self._one_at_a_time.locked():
                self._context.spawn(self._adjust(), "pause")
            elif not self._draining:
                # At once: in another turn of the event loop as many would be accepted again, and refused.
                self._stop_listening()

    async def _adjust(self) -> None:
        """Do what `_paused` says by now."""
        async with self._one_at_a_time:
            if self._draining or not self._started:
                return
            if self._paused:
                self._stop_listening()
            elif not self._servers:
                try:
                    await self._listen()
                except OSError as error:
                    # There may be no descriptor left. The next sweep tries again: on all sockets or on none.
                    self._stop_listening()
                    self._paused = True
                    self._context.warn("no clients can be accepted", key="accept", reason=str(error))

    async def drain(self, handed_on: Collection[int] = ()) -> None:
        """Accept all that have connected already, or are about to, then stop.

        A closed listening socket would drop the connections that are queued on it. The manager has seen to it
        that no new ones begin; but for those sockets (by position) that are `handed_on`: they stay open
        elsewhere, and so does their queue.
        """
        accepted: list[socket.socket] = []
        self._draining = True
        ending = [sock for position, sock in enumerate(self._listeners) if position not in handed_on]
        await asyncio.sleep(_HANDSHAKE_S if self._started and ending else 0)
        async with self._one_at_a_time:
            if self._started:
                for listener in ending:
                    accepted += _accept_all(listener)
            self._stop_listening()
            for listener in self._listeners:
                listener.close()
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
