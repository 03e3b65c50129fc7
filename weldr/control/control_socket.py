"""Commands to a running manager by programs of this machine: `weldr upgrade`, `weldr stop`.

A Unix socket without a file (Linux's abstract names), called after the admin address. Who asks is known from
the kernel: root, or the user that the manager runs as. What is to be started may be said only by somebody who
can do all that the manager can; anybody else gets the manager's own command line. Such a name is anybody's who
binds it first, so who asks looks at whose it is, too (`weldr/cli/supervise.py`).

A request is one line of JSON. Answers are lines, too: any number of `{"progress": …}`, then `{"done": …}` or
`{"error": …}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec

from weldr import privileges
from weldr.control.accepting import Accepting

logger = logging.getLogger(__name__)

_PREFIX = "\0weldr-control "
_LIMIT_BYTES = 1 << 20
_READ_LIMIT_S = 5.0
_MOST_AT_ONCE = 16
_RETRY_S = 2.0


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

    def __init__(self, name: str, handle: Handler, on_problem: Callable[[], None]) -> None:
        """`on_problem` is called when `problem` has changed."""
        self._name = name
        self._handle = handle
        self._on_problem = on_problem
        self.problem: str | None = None
        """Why commands do not reach this manager."""
        self._accepting: Accepting | None = None
        self._sock: socket.socket | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def descriptor(self) -> int | None:
        """Of the socket, if it is open."""
        return self._sock.fileno() if self._sock is not None else None

    async def open(self, given: socket.socket | None) -> None:
        """Take commands, on the socket that an old manager gave if it has the right name; else as soon as the
        name can be had."""
        if sys.platform != "linux":
            return
        if given is not None and given.getsockname() != self._name.encode():
            given.close()
            given = None
        try:
            self._listen(given)
        except OSError as error:
            self.problem = f"weldr upgrade and weldr stop do not reach this instance: {self._reason(error)}"
            logger.warning(f"{self.problem}: use signals, or end that process")
            self._on_problem()
            self._retrying = asyncio.create_task(self._retry(), name="control-socket")

    def _listen(self, given: socket.socket | None) -> None:
        sock = given or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if given is None:
                sock.bind(self._name)
            sock.listen()
            self._accepting = Accepting.streams(sock.dup(), self._take_call, _LIMIT_BYTES)
        except BaseException:
            sock.close()
            raise
        self._sock = sock

    def _reason(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.connect(self._name)
                pid, uid = _peer(sock)
                return f"the process {pid} of the user {uid} has the name @{self._name[1:]}"
        return f"@{self._name[1:]}: {error.strerror or error}"

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(_RETRY_S)
            with contextlib.suppress(OSError):
                self._listen(None)
                break
        self.problem = None
        logger.info("weldr upgrade and weldr stop reach this instance now")
        self._on_problem()

    async def close(self) -> None:
        """Take no more; those under way go on until `finish`."""
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
            self._retrying = None
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None
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
            refusal = Answer(
                error=f"{_MOST_AT_ONCE} other commands are under way: try again when they have ended"
            )
            writer.write(msgspec.json.encode(refusal) + b"\n")
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

        uid = peer_uid(writer.get_extra_info("socket"))
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


def peer_uid(sock: socket.socket) -> int:
    """The user at the other end, as the kernel noted it when that one listened or connected."""
    return _peer(sock)[1]


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Process and user."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", data)
    return pid, uid
