"""Making a connection to a backend, and why there is none."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

from weldr.proxy import outcome
from weldr.proxy.context import Context
from weldr.proxy.pool import BackendPool
from weldr.proxy.routing.rules import Verdict
from weldr.proxy.upstream_connection import UpstreamConnection
from weldr.proxy.verdicts import CLOSED_AT_ONCE, RETRY_AFTER

if TYPE_CHECKING:
    from weldr.proxy.supervision import Supervision

_OWN_LIMITS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Errors that say nothing of the backend: this worker is out of descriptors, memory or local ports."""

_OWN_LIMIT = Verdict(
    503, "weldr is out of resources for another connection", "connection_limit_reached", RETRY_AFTER
)


class ConnectError(Exception):
    """No connection to the backend. `verdict` is what that makes of a request if there is no other backend."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


async def connect(
    context: Context, pool: BackendPool, supervision: Supervision | None, timeout_s: float
) -> UpstreamConnection:
    """A new connection to the pool's backend. If there is none, it is logged and counts against the backend.

    Raises `ConnectError`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection = await _connection(context, pool)
        if connection.usable:
            return connection
        verdict = CLOSED_AT_ONCE
    except (OSError, UnicodeError) as error:
        verdict = _verdict(error)
    service_name, backend_id, _, _ = pool.key
    context.accounts.incidents(service_name).connect_failures += 1
    context.warn(
        "a backend takes no connection: the next one is tried",
        key=pool.authority,
        service=service_name,
        backend=backend_id,
        address=pool.authority,
        reason=verdict.reason,
    )
    if verdict is not _OWN_LIMIT:
        outcome.failed(context, pool, supervision, verdict.reason)
    raise ConnectError(verdict)


async def _connection(context: Context, pool: BackendPool) -> UpstreamConnection:
    _, _, host, port = pool.key
    made: list[UpstreamConnection] = []

    def protocol() -> UpstreamConnection:
        made.append(UpstreamConnection(context, pool))
        return made[-1]

    try:
        _, connection = await context.loop.create_connection(protocol, host, port)
    except BaseException:
        # One that was made as its time ended is closed by the event loop, which tells it nothing of that.
        for connection in made:
            context.deadlines.remove(connection)
        raise
    return connection


def _verdict(error: OSError | UnicodeError) -> Verdict:
    if isinstance(error, TimeoutError):
        return Verdict(504, "the backend did not accept the connection in time", "connection_timeout")
    if isinstance(error, ConnectionRefusedError):
        return Verdict(502, "the backend refused the connection", "connection_refused")
    if (isinstance(error, OSError) and error.errno in _OWN_LIMITS) or not _has_descriptors():
        return _OWN_LIMIT
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Verdict(502, "the backend's name has no address", "dns_error")
    return Verdict(502, "the backend cannot be reached", "destination_ip_unroutable")


def _has_descriptors() -> bool:
    """Whether one more can be had. Who cannot look up a name for want of one says anything but that."""
    try:
        socket.socket().close()
    except OSError as error:
        return error.errno not in _OWN_LIMITS
    return True
