"""Runs a program that is in rotation while it runs: the inside of `weldr register … -- COMMAND`.

The order of the end is what loses no request: on SIGTERM or SIGINT the backend first leaves the rotation and
finishes what it has, and only then is the command told. It runs in a process group of its own, since Ctrl-C
in a terminal would otherwise reach it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

import aiohttp

from weldr.model.address import Address

logger = logging.getLogger(__name__)

LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PASSED_SIGNALS = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)

_PROBE_LIMIT_S = 2.0
_SILENT_S = 3.0
_PROBE_FIRST_PAUSE_S = 0.05
_PROBE_LAST_PAUSE_S = 1.0


class CommandNotStartedError(Exception):
    """The command cannot be run; one line that says why."""


class Command:
    """A child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, arguments: list[str]) -> Command:
        """Run it.

        Raises `CommandNotStartedError`.
        """
        try:
            return cls(await asyncio.create_subprocess_exec(*arguments, process_group=0))
        except OSError as error:
            reason = error.strerror or str(error)
            raise CommandNotStartedError(f"cannot run {arguments[0]!r}: {reason}") from None

    async def exit_status(self) -> int:
        """Wait for its end; the status as a shell gives it: 128 + n if signal n ended it."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    def send(self, number: int) -> None:
        """Pass a signal on."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


async def accepting(address: Address, check: str | None) -> None:
    """Wait until the address accepts connections or, with `check`, that URL answers 2xx.

    Says so, once, if it takes long.
    """
    loop = asyncio.get_running_loop()
    said, silent_until_s = False, loop.time() + _SILENT_S
    pause_s = _PROBE_FIRST_PAUSE_S
    while (reason := await (_not_accepting(address) if check is None else _not_answering(check))) is not None:
        if not said and loop.time() > silent_until_s:
            said = True
            awaited = f"{address} accepts connections" if check is None else f"{check} answers 2xx"
            logger.warning(f"not registered yet: waiting until {awaited}", extra={"reason": reason})
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _PROBE_LAST_PAUSE_S)


async def _not_accepting(address: Address) -> str | None:
    """Why not; `None` if it does."""
    try:
        async with asyncio.timeout(_PROBE_LIMIT_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError as error:
        # asyncio's own text for a failed connection is less clear than the system's.
        return os.strerror(error.errno) if error.errno else str(error) or "no answer"
    writer.close()
    return None


async def _not_answering(url: str) -> str | None:
    """Why not; `None` if it does."""
    timeout = aiohttp.ClientTimeout(total=_PROBE_LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return None if 200 <= response.status < 300 else f"it answers {response.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(error) or "no answer"
