"""Starting a new manager so that it outlives this one, and knowing for certain whether it lives.

It is no child of ours: whoever supervises this process (systemd, or PID 1 of a container) becomes its parent at
once and is told of its end. We watch it by a descriptor of the process, which no other process can come to own.
A launcher in between does no more than fork, so that this process, which has threads, need not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence

_LAUNCHER = """
import os, sys
go, tell = int(sys.argv[1]), int(sys.argv[2])
child = os.fork()
if child:
    os.write(tell, str(child).encode())
    os._exit(0)
os.set_inheritable(tell, False)
if os.read(go, 1) != b"x":
    os._exit(1)
os.close(go)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    os.write(tell, f"{sys.argv[3]}: {error.strerror}".encode())
    os._exit(127)
"""
_LIMIT_S = 10.0


class LaunchError(Exception):
    """It cannot be started; one line."""


def own_program() -> list[str]:
    """The program that this process runs, as it was called: what is installed there now may be another version.

    A script names its interpreter itself.
    """
    arguments = len(sys.argv) - 1
    called = list(sys.orig_argv[: len(sys.orig_argv) - arguments])
    if len(called) == 2 and os.access(called[1], os.X_OK):
        return called[1:]
    return [sys.executable, *called[1:]]


class NewProcess:
    """A process that was started here and is nobody's child."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._take_end)

    def _take_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._ended.set()

    async def wait(self) -> None:
        """Until it has ended."""
        await self._ended.wait()

    async def kill(self) -> None:
        """End it at once; it is gone when this returns."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
        await self._ended.wait()

    def terminate(self) -> None:
        """Tell it to stop in order."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGTERM)

    def close(self) -> None:
        """Forget it."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


async def launch(
    command: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]
) -> NewProcess:
    """Start `command` with these descriptors.

    Raises `LaunchError`.
    """
    if not hasattr(os, "pidfd_open"):
        raise LaunchError("an upgrade takes Linux 5.3 or newer")
    ends: list[int] = []
    try:
        ends += os.pipe()
        ends += os.pipe()
        wait_end, go_end, told_end, tell_end = ends
        launcher = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            "-c",
            _LAUNCHER,
            str(wait_end),
            str(tell_end),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[wait_end, tell_end, *descriptors],
            env=dict(environment),
        )
        async with asyncio.timeout(_LIMIT_S):
            await launcher.wait()
        os.set_blocking(told_end, False)
        pid = int(os.read(told_end, 32))
        process = NewProcess(pid, os.pidfd_open(pid))
        ends.remove(tell_end)
        os.close(tell_end)
        os.write(go_end, b"x")
        if reason := await _why_not_executed(told_end):
            await process.kill()
            process.close()
            raise LaunchError(f"a new manager cannot be started: {reason}")
    except (OSError, ValueError, TimeoutError) as error:
        raise LaunchError(f"a new manager cannot be started: {error}") from None
    finally:
        for end in ends:
            os.close(end)
    return process


async def _why_not_executed(told_end: int) -> str:
    """Empty if it runs: then the pipe ends without a word."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(told_end, told.set)
    try:
        async with asyncio.timeout(_LIMIT_S):
            await told.wait()
        return os.read(told_end, 4096).decode("utf-8", "replace")
    except TimeoutError:
        # It may be a slow disk. Whether it becomes ready is waited for anyway.
        return ""
    finally:
        loop.remove_reader(told_end)
