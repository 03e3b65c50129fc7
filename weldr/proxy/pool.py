"""One backend of one service: its kept connections, its new ones, and its requests in flight.

A kept connection is taken in LIFO order, so that the ones at the bottom grow old and are retired when fewer
are needed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weldr.proxy.context import Context
    from weldr.proxy.upstream_connection import UpstreamConnection

_MAX_KEPT = 256

_OWN_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Errors that say nothing of the backend: this worker is out of descriptors, memory or local ports."""


class ConnectError(Exception):
    """No connection to the backend. `error` is a type of RFC 9209, `status` what it makes of a request."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason


class BackendPool:
    """See the module."""

    __slots__ = ("_context", "_host", "_kept", "_port", "_stopped", "in_flight", "key")

    def __init__(self, context: Context, key: tuple[str, str, str, int]) -> None:
        """`key` is the service, the backend's id, host and port."""
        self.key = key
        self.in_flight = 0
        """Requests that were given to this backend and have not ended, tunnels included."""
        self._context = context
        _, _, self._host, self._port = key
        self._kept: list[UpstreamConnection] = []
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether it gets no new requests."""
        return self._stopped

    @property
    def authority(self) -> str:
        """`host:port`, for the log."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def start(self) -> None:
        """The backend is in rotation."""
        self._stopped = False

    def stop(self) -> None:
        """The backend gets no new requests; those in flight finish."""
        self._stopped = True
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def enter(self) -> None:
        """A request is given to this backend."""
        self.in_flight += 1

    def leave(self) -> None:
        """That request has ended, or goes elsewhere."""
        self.in_flight -= 1
        if self._stopped and self.in_flight == 0:
            self._context.fleet.idle(self)

    def take(self) -> UpstreamConnection | None:
        """A kept connection."""
        kept = self._kept
        while kept:
            connection = kept.pop()
            if connection.usable:
                return connection
        return None

    def keep(self, connection: UpstreamConnection) -> None:
        """Take back a connection that is fit for another request."""
        if self._stopped or len(self._kept) >= _MAX_KEPT or not connection.usable:
            connection.close()
            return
        connection.deadline_s = self._context.now_s() + self._context.fleet.table.timeouts.upstream_idle_s
        self._kept.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""
        if connection in self._kept:
            self._kept.remove(connection)

    async def connect(self, timeout_s: float) -> UpstreamConnection:
        """A new connection.

        Raises `ConnectError`.
        """
        from weldr.proxy.upstream_connection import UpstreamConnection

        loop = self._context.loop
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self._context, self), self._host, self._port
                )
        except (OSError, UnicodeError) as error:
            raise _connect_error(error) from None
        return connection


def _connect_error(error: OSError | UnicodeError) -> ConnectError:
    if isinstance(error, TimeoutError):
        return ConnectError(504, "connection_timeout", "the backend did not accept the connection in time")
    if isinstance(error, ConnectionRefusedError):
        return ConnectError(502, "connection_refused", "the backend refused the connection")
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return ConnectError(502, "dns_error", "the backend's name has no address")
    if error.errno in _OWN_LIMITS:
        return ConnectError(503, "connection_limit_reached", "weldr is out of resources for another connection")
    return ConnectError(502, "destination_ip_unroutable", "the backend cannot be reached")
