"""Who is heard, by the heartbeats that arrive. Pure: time comes in turns.

Silence is counted in turns of our own sending and not by a clock. A process that was stopped for a minute
took no turn, and reads what waits in its socket before the next one: it does not take the whole world for
dead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from weldr.control.vip.messages import Heartbeat
from weldr.model.vip_timing import HEARTBEAT_S

TURN_S = HEARTBEAT_S / 2
_TURNS_HEARD = 6


@dataclass(slots=True)
class _Heard:
    turns: int
    beat: Heartbeat


@dataclass(slots=True)
class Hearing:
    """The last heartbeat of each instance, and how long ago that was."""

    _heard: dict[str, _Heard] = field(default_factory=dict)

    def note(self, sender: str, beat: Heartbeat) -> None:
        """A heartbeat arrived."""
        self._heard[sender] = _Heard(0, beat)

    def take_turn(self, instances: set[str]) -> None:
        """`TURN_S` has passed. Only these instances still exist."""
        for name in [name for name in self._heard if name not in instances]:
            del self._heard[name]
        for heard in self._heard.values():
            heard.turns += 1

    def forget(self) -> None:
        """Nobody was heard yet."""
        self._heard.clear()

    def heard_now(self) -> list[str]:
        """Who is heard."""
        return [name for name, heard in self._heard.items() if heard.turns <= _TURNS_HEARD]

    def holders_heard_now(self) -> list[str]:
        """Who is heard, and holds anything."""
        return [name for name in self.heard_now() if self._heard[name].beat.holds]

    def silence_of_holder_s(self, instance: str, vip: str, token: int) -> float:
        """How long the holder has been silent, after it was heard to hold. 0 if it never was: a network that
        lets no heartbeats through says nothing about anybody."""
        heard = self._heard.get(instance)
        if heard is None or heard.beat.holds.get(vip) != token:
            return 0.0
        return heard.turns * TURN_S

    def heard_by(self, instance: str) -> set[str]:
        """Who is heard, and says that it hears `instance`."""
        return {name for name in self.heard_now() if instance in self._heard[name].beat.hears}
