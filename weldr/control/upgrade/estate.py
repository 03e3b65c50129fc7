"""What a manager leaves to the one that takes over from it, and how it stops acting for the instance.

A manager that has handed over serves its last connections under a name of its own, `<instance>~<pid>`: whoever
waits until every instance has applied a change, or has nothing in flight to a backend, waits for it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from weldr.control.control_socket import ControlSocket
from weldr.control.health.hub import HealthHub
from weldr.control.listeners import Listeners
from weldr.control.presence import Presence
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.model.frames import encode_frame
from weldr.model.health import Standing
from weldr.model.takeover import Candidacy, Down, KnownDown, VipsState

_WRITE_LIMIT_S = 3.0
_MOST_KNOWN_DOWN = 200
_MOST_CHARACTERS = 200
_MOST_BYTES = 64 * 1024


@dataclass(slots=True)
class Estate:
    """See `Giver`."""

    instance: str
    prefix: str
    listeners: Listeners
    admin_listeners: Listeners
    control: ControlSocket
    virtual_ips: VirtualIps
    presence: Presence
    retired: Presence
    """The presence under the name of its own."""
    health: HealthHub
    _retired_runs: asyncio.Task[None] | None = None

    def control_descriptor(self) -> int | None:
        """See `Giver`."""
        return self.control.descriptor

    def peer_descriptor(self) -> int | None:
        """See `Giver`."""
        return self.virtual_ips.peer_descriptor

    def hints(self) -> list[Candidacy]:
        """See `Giver`."""
        return self.virtual_ips.hints()

    def known_down(self) -> KnownDown:
        """See `Giver`."""
        down = [key for key, standing in self.health.standings.items() if standing is Standing.DOWN]
        # All of it has to fit into a socket that nobody reads yet; a name may be of any length.
        told: list[Down] = []
        left_bytes = _MOST_BYTES
        for key in down[:_MOST_KNOWN_DOWN]:
            each = Down(key=key, reason=self.health.monitor.reason(key)[:_MOST_CHARACTERS])
            left_bytes -= len(encode_frame(each))
            if left_bytes < 0:
                break
            told.append(each)
        return KnownDown(backends=told)

    async def rest(self) -> VipsState:
        """See `Giver`."""
        if self._retired_runs is None:
            self._retired_runs = asyncio.create_task(self.retired.run(), name="retired-presence")
        async with asyncio.timeout(_WRITE_LIMIT_S):
            self.retired.changed()
            await self.retired.wait_written()
        try:
            await self.presence.quieten()
            return await self.virtual_ips.freeze()
        except BaseException:
            # Of time, or because the manager is to stop meanwhile.
            self.presence.speak()
            raise

    def act(self) -> None:
        """See `Giver`."""
        for listeners in (self.listeners, self.admin_listeners):
            # The new one may have had the kernel choose among as many sockets as it has workers.
            listeners.begin()
        self.virtual_ips.take_back()
        self.presence.speak()

    async def forget_retirement(self) -> None:
        """The end of the presence under the name of its own, if it has begun."""
        running, self._retired_runs = self._retired_runs, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
