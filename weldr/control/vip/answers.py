"""What the virtual IPs of this instance say of themselves when other instances ask: `peers.Holds`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.view import View
from weldr.control.vip.wanted import is_elsewhere
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip


class Answers:
    """From those that are running now."""

    def __init__(self, running: Mapping[str, tuple[Vip, VirtualIp]], view: View) -> None:
        self._running = running
        self._view = view

    def tokens_held(self) -> dict[str, int]:
        """See `Holds`."""
        return {
            name: running.holding.hold.token
            for name, (_, running) in self._running.items()
            if running.holding.hold
        }

    def busy(self, vip: str) -> bool:
        """See `Holds`."""
        # By another key, too, if that has the address that this one's holder has.
        record = self._view.holders.get(vip)
        return any(
            running.busy or running.holding.hold is not None
            for name, (wanted, running) in self._running.items()
            if name == vip or (record is not None and is_elsewhere(name, wanted, vip, record, self._view))
        )

    def held_until_s(self, vip: str, *, but: int) -> float:
        """See `Holds`."""
        running = self._running.get(vip)
        return -math.inf if running is None else running[1].holding.held_until_s(but)

    def uses(self, vip: str, token: int) -> bool:
        """See `Holds`."""
        running = self._running.get(vip)
        if running is None:
            return False
        holding = running[1].holding
        # What may be here yet has not left, by whatever token it came.
        if now_s() < holding.left_behind_until_s:
            return True
        return running[1].token == token or (holding.hold is not None and holding.hold.token == token)

    def known(self, vip: str) -> bool:
        """See `Holds`."""
        return vip in self._running
