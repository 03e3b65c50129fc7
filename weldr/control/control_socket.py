"""Commands to a running manager by programs of this machine: `weldr upgrade`, `weldr stop`.

A Unix socket without a file (Linux's abstract names), called after the admin address. Who asks is known from
the kernel: root, or the user that the manager runs as. What is to be started may be said only by somebody who
can do all that the manager can; anybody else gets the manager's own command line.

A request is one line of JSON. Answers are lines, too: any number of `{"progress": …}`, then `{"done": …}` or
`{"error": …}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec

from weldr import privileges

logger = logging.getLogger(__name__)

_PREFIX = "\0weldr-control "
_LIMIT_BYTES = 1 << 20
_READ_LIMIT_S = 5.0
_MOST_AT_ONCE = 16


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a command asks for."""

    command: str
    program: list[str] = []
    """For `upgrade`: what to start; empty for the same as now."""
    arguments: list[str] | None = None
    """Of the new manager; the old one's if `None`."""
    environment: dict[str, str] | None = None
    """Its variables of weldr and etcdctl; the old one's if `None`."""
    limit_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60.0
    drain: bool = False
    """For `stop`: whether to wait for `shutdown_delay_s` first."""
    shutdown_delay_s: Annotated[float, msgspec.Meta(ge=0, le=86400)] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an answer."""

    progress: str = ""
    done: str = ""
    error: str = ""


class ControlError(Exception):
    """A command cannot be carried out; one line."""


Handler = Callable[[Request, bool, Callable[[str], None]], Awaitable[str]]
"""Carries out a request. Told whether the caller may say what is started, and given a function for progress;
returns what was done. Raises `ControlError`."""


def control_name(admin: str) -> str:
    """The socket's name for the manager whose admin port is there."""
    return _PREFIX + admin


class ControlSocket:
    """The manager's end."""

    def __init__(self, name: str, handle: Handler) -> None:
        self._name = name
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._sock: socket.socket | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def descriptor(self) -> int | None:
        """Of the socket, if it is open."""
        return self._sock.fileno() if self._sock is not None else None

    async def open(self, given: socket.socket | None) -> None:
        """Take commands, on the socket that an old manager gave if it has the right name."""
        if sys.platform != "linux":
            return
        if given is not None and given.getsockname() == self._name.encode():
            self._sock = given
        else:
            if given is not None:
                given.close()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.bind(self._name)
            except OSError as error:
                sock.close()
                logger.warning(
                    "weldr upgrade and weldr stop will not reach this instance: use signals",
                    extra={"reason": error.strerror or str(error)},
                )
                return
            self._sock = sock
        self._server = await asyncio.start_unix_server(
            self._take_call, sock=self._sock.dup(), limit=_LIMIT_BYTES
        )

    async def close(self) -> None:
        """Take no more; those under way go on until `finish`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    async def finish(self) -> None:
        """Cut off those under way: the manager ends."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _take_call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._calls) >= _MOST_AT_ONCE:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer), name="control")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            logger.debug("a command went away")
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(answer: Answer) -> None:
            writer.write(msgspec.json.encode(answer) + b"\n")

        uid = _peer_uid(writer)
        if uid not in (0, os.geteuid()):
            say(Answer(error=f"only root and the user {os.geteuid()} may do that"))
            return
        async with asyncio.timeout(_READ_LIMIT_S):
            line = await reader.readuntil(b"\n")
        try:
            request = msgspec.json.decode(line, type=Request)
        except msgspec.DecodeError as error:
            say(Answer(error=f"the manager does not understand this command ({error}): it has another version"))
            return
        trusted = uid == 0 or not privileges.effective()
        logger.info("asked by a command", extra={"command": request.command, "uid": uid})
        try:
            done = await self._handle(request, trusted, lambda text: say(Answer(progress=text)))
        except ControlError as error:
            say(Answer(error=str(error)))
        else:
            say(Answer(done=done))
        with contextlib.suppress(OSError):
            await writer.drain()


def _peer_uid(writer: asyncio.StreamWriter) -> int:
    sock = writer.get_extra_info("socket")
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", data)[1])
