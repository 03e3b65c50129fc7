"""Whether an address should be at another instance: for a move by hand, or for the places of all of them."""

from __future__ import annotations

from weldr.control.vip.context import Context
from weldr.control.vip.hold import Hold
from weldr.etcd.clock import now_s
from weldr.model.vips import Vip

_MOVE_PATIENCE_S = 1.5


class Placement:
    """Of one virtual IP."""

    def __init__(self, name: str, vip: Vip, context: Context) -> None:
        self._name = name
        self._vip = vip
        self._context = context
        self._moving_since_s: float | None = None

    def elsewhere(self, hold: Hold | None) -> str:
        """Why the address should be at another instance, if it can go there now. `hold` if it is here."""
        view, me = self._context.view, self._context.me
        move, record, queue = view.moves.get(self._name), view.holders.get(self._name), view.queue(self._name)
        if move is None or record is None or record.token != move.token:
            self._moving_since_s = None
            return self._context.give_away(self._name, self._vip, queue) if hold is not None else ""
        names = [contender.value.decode("utf-8", "replace") for contender in queue]
        if hold is None:
            # Nobody steps aside for one that does not stand: it would take the address for nobody.
            return f"it is to move to {move.to}" if move.to in names and move.to != me else ""
        if move.token != hold.token or move.to == me or not set(names) - {me}:
            return ""
        # Give the others time to step back, so that the one that is wanted is next.
        self._moving_since_s = self._moving_since_s or now_s()
        waited = now_s() - self._moving_since_s > _MOVE_PATIENCE_S
        if not move.to or names[1:2] == [move.to] or (waited and move.to in names):
            return f"moved to {move.to or 'another instance'} by hand"
        return ""
