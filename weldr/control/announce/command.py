"""`announce: exec`: a command puts the address in place, for clouds where an API moves addresses.

It is run with one argument, `acquire` or `release`, never two at a time for one virtual IP, and what it has to
know is in its environment. Nothing takes the address away from a host that has died or is frozen but the next
holder's `acquire`: a command must move the address from wherever it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from weldr.control.announce.announcer import LateError
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip

logger = logging.getLogger(__name__)

COMMAND_LIMIT_S = 20.0
_AGAIN_S = 5.0
_SHOWN_BYTES = 400
_OVERTAKEN = "something else was wished meanwhile"


async def run_command(path: Path, argument: str, environment: dict[str, str], limit_s: float) -> str | None:
    """Run a program; why it failed, in one line, `None` if it did not."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(path),
            argument,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath)} | environment,
            start_new_session=True,
        )
    except OSError as error:
        return f"{path} cannot be run: {error.strerror or error}"
    except ValueError as error:  # the name of a virtual IP may have any byte in it
        return f"{path} cannot be run: {error}"
    assert process.stderr is not None
    try:
        async with asyncio.timeout(limit_s):
            said = await process.stderr.read(_SHOWN_BYTES)
            while await process.stderr.read(1 << 16):
                pass
            status = await process.wait()
    except TimeoutError:
        # It may have ended and left others behind that hold its standard error, some of them another user's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        return f"{path} took longer than {limit_s:g} s and was killed"
    finally:
        # One that became another user's (by sudo) cannot be killed: nothing waits for it.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if status == 0:
        return None
    return f"{path} ended with {status}: {' '.join(said.decode('utf-8', 'replace').split())}"


class CommandAnnouncer:
    """One virtual IP. Runs what is due in the background, the last wish winning. An `acquire` that failed is
    repeated for as long as the address is held: nobody else is going to fetch it."""

    def __init__(self, name: str, vip: Vip, find: Callable[[], Path | str]) -> None:
        """`find` gives the program, or says why it cannot be run now."""
        self._name = name
        self._vip = vip
        self._find = find
        self._wish: tuple[str, int] | None = None
        self._token = 0
        self._held = False
        self._placed = False
        self._failure: str | None = None
        self._wished = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._release: asyncio.Task[str | None] | None = None

    def problem(self) -> str | None:
        """See `Announcer`."""
        found = self._find()
        return found if isinstance(found, str) else None

    async def conflict(self) -> str | None:
        """See `Announcer`."""
        return None

    def acquire(self, token: int, latest_s: float) -> None:
        """See `Announcer`."""
        self.renew(latest_s)
        self._held, self._token, self._placed = True, token, False
        self._want("acquire")

    def placed(self) -> bool:
        """See `Announcer`."""
        return self._placed

    def adopt(self, token: int, *, placed: bool) -> None:
        """See `Announcer`."""
        self._held, self._token, self._placed = True, token, placed
        if not placed:
            # The other manager does not repeat what fails there now.
            self._want("acquire")

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        if now_s() > latest_s:
            raise LateError("too late to acquire the address")

    def failure(self) -> str | None:
        """See `Announcer`."""
        return self._failure

    def in_place(self) -> bool:
        """See `Announcer`."""
        return self._held

    def release(self, *, in_order: bool) -> None:
        """See `Announcer`."""
        if self._held:
            self._held = False
            self._want("release")

    async def released(self) -> None:
        """See `Announcer`."""
        releasing = self._release if self._held else self._running
        if releasing is not None:
            await asyncio.wait({releasing})

    async def close(self) -> None:
        """See `Announcer`."""
        self._held = False
        self._wished.set()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    def _want(self, argument: str) -> None:
        self._wish = (argument, self._token)
        self._wished.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name=f"announce-{self._name}")

    async def _run(self) -> None:
        while self._wish is not None:
            (argument, token), self._wish = self._wish, None
            self._wished.clear()
            environment = {
                "WELDR_VIP": self._name,
                "WELDR_VIP_ADDRESS": self._vip.ip,
                "WELDR_VIP_TOKEN": str(token),
                "WELDR_VIP_STATE": "announcing" if argument == "acquire" else "following",
            }
            path = self._find()
            reason = path if isinstance(path, str) else await self._carry_out(path, argument, environment)
            if reason is _OVERTAKEN:
                continue
            self._failure = None if reason is None else f"`{argument}` failed: {reason}"
            if reason is not None:
                logger.error("a virtual IP's command failed", extra={"vip": self._name, "reason": reason})
            if argument == "acquire" and token == self._token:
                self._placed = reason is None
            if reason is not None and argument == "acquire" and await self._is_still_held():
                self._wish = ("acquire", token)

    async def _carry_out(self, path: Path, argument: str, environment: dict[str, str]) -> str | None:
        """See `run_command`. An `acquire` ends with the wish for it, or it would fetch the address from whoever
        has it next."""
        command = asyncio.create_task(run_command(path, argument, environment, COMMAND_LIMIT_S))
        if argument == "release":
            self._release = command
        wished = asyncio.create_task(self._wished.wait())
        waits = {command, wished} if argument == "acquire" else {command}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return await command if command.done() else _OVERTAKEN
        finally:
            command.cancel()
            wished.cancel()
            await asyncio.gather(command, wished, return_exceptions=True)

    async def _is_still_held(self) -> bool:
        """Whether the address is still ours to fetch after a pause, and nothing else was wished meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S):
                await self._wished.wait()
        return self._held and self._wish is None
