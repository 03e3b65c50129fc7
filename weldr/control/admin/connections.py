"""The connections of the admin port: so many, and none for long that does not get on.

Each costs memory and a descriptor of the process that also talks to etcd and holds virtual IPs, and nobody has
shown a token yet when it connects. So whoever has no request under way gives way to whoever comes.

| a client                                  | what becomes of it                                               |
|-------------------------------------------|------------------------------------------------------------------|
| sends no whole head within `head_s`       | closed (by aiohttp, to which this is a connection that is idle)  |
| reads nothing of its answer for `stall_s` | aborted                                                          |
| is one more than `most`                   | the one that has waited longest without a request is aborted for |
|                                           | it; if all have one, it is aborted itself                        |
| wants a large answer while others leave   | 503                                                              |
| `unread_bytes` unread                     |                                                                  |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from aiohttp import http_exceptions, web

from weldr.control.accepting import Accepting
from weldr.control.admin.problem import PROTECTION, ProblemError

logger = logging.getLogger(__name__)

# aiohttp has a traceback for everybody who sends what is no HTTP; what fails in the API is logged there.
_silent = logging.getLogger(f"{__name__}.aiohttp")
_silent.setLevel(logging.CRITICAL)

_MOST = 4096
_LARGE_BYTES = 64 * 1024
"""As many as there are connections, each just below it, are as much as `unread_bytes`."""
_SHUTDOWN_S = 1.0
_LOOKS_PER_STALL = 3


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """See the module."""

    most: int
    head_s: float = 15.0
    """From the accept, or from the end of the answer before."""
    stall_s: float = 15.0
    unread_bytes: int = 256 * 1024 * 1024
    """Of all answers together, beyond what the kernel takes."""

    @classmethod
    def within(cls, descriptors: int) -> ConnectionLimits:
        """The limits of a process that has so many descriptors to spare."""
        return cls(most=min(_MOST, descriptors))

    @property
    def most_streams(self) -> int:
        """Event streams never end: others must get in beside them."""
        return self.most // 2


class Connections:
    """Serves an application, and is the owner of its connections."""

    def __init__(self, application: web.Application, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        self._waiting: dict[_Connection, None] = {}
        """Those without a request, in the order in which they began to wait."""
        self._accepting: list[Accepting] = []
        self._sweep: asyncio.Task[None] | None = None
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_silent,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
            keepalive_timeout=limits.head_s,
        )

    async def start(self, sockets: list[socket.socket]) -> None:
        """Begin to accept on listening sockets."""
        await self._runner.setup()
        self._sweep = asyncio.create_task(self._look_for_stalls(), name="admin-connections")
        self._accepting += [Accepting(listener, self._accept) for listener in sockets]

    async def close(self) -> None:
        """End all of them."""
        for accepting in self._accepting:
            accepting.close()
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.gather(self._sweep, return_exceptions=True)
        await self._runner.cleanup()

    @contextlib.contextmanager
    def busy(self, request: web.Request) -> Iterator[None]:
        """As long as this lasts the request's connection is not one that waits."""
        connection = self._open.get(request.transport) if request.transport else None
        if connection is not None:
            self._waiting.pop(connection, None)
        try:
            yield
        finally:
            if connection is not None and connection.transport in self._open:
                self._waiting[connection] = None

    def check_room(self, response: web.StreamResponse) -> None:
        """Whether there is room for an answer that may have to wait for its reader.

        Raises `ProblemError`.
        """
        body = response.body if isinstance(response, web.Response) else None
        if not isinstance(body, bytes) or len(body) < _LARGE_BYTES:
            return
        if sum(connection.unread_bytes for connection in self._open.values()) > self._limits.unread_bytes:
            detail = "clients leave too much of their answers unread: try again, or ask for less at a time"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})

    def _accept(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        handler = self._runner.server()
        # aiohttp has no other place where one could say how it answers what is no HTTP.
        handler.__class__ = _Handler
        return _Connection(self, handler)

    def admit(self, connection: _Connection) -> bool:
        """Take a new connection, if there is or can be made room for it."""
        if len(self._open) >= self._limits.most:
            idle = next((waiting for waiting in self._waiting if not waiting.unread_bytes), None)
            if idle is None:
                return False
            self.forget(idle)
            idle.transport.abort()
        self._open[connection.transport] = connection
        self._waiting[connection] = None
        return True

    def forget(self, connection: _Connection) -> None:
        """It has ended."""
        self._open.pop(connection.transport, None)
        self._waiting.pop(connection, None)

    async def _look_for_stalls(self) -> None:
        while True:
            await asyncio.sleep(self._limits.stall_s / _LOOKS_PER_STALL)
            for connection in list(self._open.values()):
                if connection.looks_without_progress() >= _LOOKS_PER_STALL:
                    connection.transport.abort()


class _Handler(web.RequestHandler):
    """Answers what is no HTTP as everything else is answered, and without telling it back."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, http_exceptions.LineTooLong):
            detail = (
                "the first line of the request or one of its fields is too long: at most 8190 bytes are taken"
            )
            problem = ProblemError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            problem = ProblemError(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1 that can be read")
        else:
            logger.error("a request to the admin port failed", exc_info=exc)
            problem = ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "weldr failed at this request: its log says why"
            )
        response = problem.response()
        response.headers.update(PROTECTION)
        response.force_close()
        return response


@dataclass(eq=False, slots=True)
class _Connection(asyncio.Protocol):
    """Stands between a transport and aiohttp's handler of it."""

    owner: Connections
    handler: asyncio.Protocol
    transport: asyncio.Transport = field(init=False)
    _admitted: bool = False
    _unread_before: int = 0
    _looks: int = 0

    @property
    def unread_bytes(self) -> int:
        """What waits for the client to read it."""
        return self.transport.get_write_buffer_size()

    def looks_without_progress(self) -> int:
        """At how many looks in a row there was just as much unread."""
        unread = self.unread_bytes
        self._looks = self._looks + 1 if unread and unread == self._unread_before else 0
        self._unread_before = unread
        return self._looks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._admitted = self.owner.admit(self)
        if self._admitted:
            self.handler.connection_made(transport)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._admitted:
            self.owner.forget(self)
            self.handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._admitted:
            self.handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self.handler.eof_received() if self._admitted else None

    def pause_writing(self) -> None:
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        self.handler.resume_writing()
