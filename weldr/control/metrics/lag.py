"""How late the manager's event loop is: what waits for it waits as long, renewals of leases among it."""

from __future__ import annotations

import asyncio

_INTERVAL_S = 0.25
_TURNS_REMEMBERED = 60


class LoopLag:
    """Looks a few times a second while `run` runs."""

    def __init__(self) -> None:
        self._recent_s = [0.0] * _TURNS_REMEMBERED

    @property
    def recent_s(self) -> float:
        """The longest of the last quarter of a minute, which is how often one is usually asked."""
        return max(self._recent_s)

    async def run(self) -> None:
        """For good."""
        loop = asyncio.get_running_loop()
        turn = 0
        while True:
            due_s = loop.time() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            self._recent_s[turn % _TURNS_REMEMBERED] = loop.time() - due_s
            turn += 1
