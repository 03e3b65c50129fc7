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
from pathlib import Path

from weldr.control.announce.announcer import LateError
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip

logger = logging.getLogger(__name__)

COMMAND_LIMIT_S = 20.0
_SHOWN_BYTES = 400


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
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status == 0:
        return None
    return f"{path} ended with {status}: {' '.join(said.decode('utf-8', 'replace').split())}"


class CommandAnnouncer:
    """One virtual IP. Runs what is due in the background, the last wish winning."""

    def __init__(self, name: str, vip: Vip, path: Path | None, problem: str | None) -> None:
        """`problem` says why `path` cannot be run."""
        self._name = name
        self._vip = vip
        self._path = path
        self._problem = problem
        self._wish: tuple[str, int] | None = None
        self._token = 0
        self._held = False
        self._running: asyncio.Task[None] | None = None

    def problem(self) -> str | None:
        """See `Announcer`."""
        return self._problem

    async def conflict(self) -> str | None:
        """See `Announcer`."""
        return None

    def acquire(self, token: int, latest_s: float) -> None:
        """See `Announcer`."""
        self.renew(latest_s)
        self._held, self._token = True, token
        self._want("acquire")

    def adopt(self, token: int) -> None:
        """See `Announcer`."""
        # The command has been run.
        self._held, self._token = True, token

    def renew(self, latest_s: float) -> None:
        """See `Announcer`."""
        if now_s() > latest_s:
            raise LateError("too late to acquire the address")

    def in_place(self) -> bool:
        """See `Announcer`."""
        return self._held

    def release(self, *, in_order: bool) -> None:
        """See `Announcer`."""
        if self._held:
            self._held = False
            self._want("release")

    async def close(self) -> None:
        """See `Announcer`."""
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    def _want(self, argument: str) -> None:
        self._wish = (argument, self._token)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name=f"announce-{self._name}")

    async def _run(self) -> None:
        assert self._path is not None
        while self._wish is not None:
            (argument, token), self._wish = self._wish, None
            environment = {
                "WELDR_VIP": self._name,
                "WELDR_VIP_ADDRESS": self._vip.ip,
                "WELDR_VIP_TOKEN": str(token),
                "WELDR_VIP_STATE": "announcing" if argument == "acquire" else "following",
            }
            reason = await run_command(self._path, argument, environment, COMMAND_LIMIT_S)
            if reason is not None:
                logger.error("a virtual IP's command failed", extra={"vip": self._name, "reason": reason})
