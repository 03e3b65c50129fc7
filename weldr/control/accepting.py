"""Accepting connections on a listening socket, also when there is no descriptor left for them.

Then asyncio's own servers try a hundred times, log a traceback for each, and come back a hundredfold: the
manager would do nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_AT_ONCE = 100
_PAUSE_S = 1.0

StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class Accepting:
    """Accepts from its beginning on. Owner of the socket."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._descriptor = listener.fileno()
        self._protocol = protocol
        self._pause: asyncio.TimerHandle | None = None
        self._is_told = False
        self._opening: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._begin()

    @classmethod
    def streams(cls, listener: socket.socket, handler: StreamHandler, limit_bytes: int) -> Accepting:
        """Have each connection handled as `asyncio.start_server` does."""

        def protocol() -> asyncio.Protocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit_bytes), handler)

        return cls(listener, protocol)

    def _begin(self) -> None:
        self._pause = None
        self._loop.add_reader(self._descriptor, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._loop.remove_reader(self._descriptor)
                self._pause = self._loop.call_later(_PAUSE_S, self._begin)
                if not self._is_told:
                    self._is_told = True
                    address = str(self._listener.getsockname())
                    extra = {"address": address, "reason": error.strerror or str(error)}
                    logger.warning("connections wait: they cannot be accepted", extra=extra)
                return
            self._is_told = False
            task = asyncio.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        await self._loop.connect_accepted_socket(self._protocol, connection)

    def close(self) -> None:
        """Accept no more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._descriptor)
        self._listener.close()
