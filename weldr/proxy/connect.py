"""Making a connection to a backend, and why there is none."""

from __future__ import annotations

import asyncio
import errno
import socket

from weldr.proxy.context import Context
from weldr.proxy.pool import BackendPool
from weldr.proxy.upstream_connection import UpstreamConnection

_OWN_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Errors that say nothing of the backend: this worker is out of descriptors, memory or local ports."""


OWN_LIMIT = "connection_limit_reached"


class ConnectError(Exception):
    """No connection to the backend. `error` is a type of RFC 9209, `status` what it makes of a request."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason


async def connect(context: Context, pool: BackendPool, timeout_s: float) -> UpstreamConnection:
    """A new connection to the pool's backend.

    Raises `ConnectError`.
    """
    _, _, host, port = pool.key
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await context.loop.create_connection(
                lambda: UpstreamConnection(context, pool), host, port
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
        return ConnectError(503, OWN_LIMIT, "weldr is out of resources for another connection")
    return ConnectError(502, "destination_ip_unroutable", "the backend cannot be reached")
