"""The `check` programs of virtual IPs, run again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from weldr.control.announce.command import run_command

_INTERVAL_S = 2.0
_LIMIT_S = 5.0


class Checks:
    """A program that fails keeps its virtual IP from being held here."""

    def __init__(self, program: Callable[[str], Path | str]) -> None:
        """`program` finds a program by its name, or says why it cannot be run."""
        self._program = program
        self._failures: dict[str, str | None] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, vip: str, name: str, address: str, *, passed: bool = False) -> None:
        """Begin to run the program `name` for this virtual IP. `passed`: so it did, the last time that another
        manager of this instance ran it."""
        self._failures[vip] = None if passed else "its check has not been run yet"
        self._tasks[vip] = asyncio.create_task(self._run(vip, name, address), name=f"vip-check-{vip}")

    def stop(self, vip: str) -> None:
        """No longer."""
        self._failures.pop(vip, None)
        task = self._tasks.pop(vip, None)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """None any longer."""
        for vip in list(self._tasks):
            self.stop(vip)

    def failure(self, vip: str) -> str | None:
        """Why the last run failed; `None` if it did not."""
        return self._failures.get(vip)

    async def _run(self, vip: str, name: str, address: str) -> None:
        while True:
            program = self._program(name)
            failure: str | None
            if isinstance(program, str):
                failure = program
            else:
                environment = {"WELDR_VIP": vip, "WELDR_VIP_ADDRESS": address}
                failure = await run_command(program, "check", environment, _LIMIT_S)
            self._failures[vip] = None if failure is None else f"its check failed: {failure}"
            await asyncio.sleep(_INTERVAL_S)
