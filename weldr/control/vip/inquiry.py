"""What an instance asks all others before it claims by a record that is older than itself. Pure.

Whoever follows etcd notices that it was restored from an older copy, and waits then. Who comes after that
finds a record of the past, or none, and cannot know of a later holder that has lost etcd. But such a holder
lives by the promises of others, and those that etcd lists can be asked. Each answers until when it is bound: by
a promise, or by what it knows of the restored etcd itself. That it is not bound holds for as long as it lives:
it has given a holder from before no word for as long as one lasts, so that holder has lost the address, and no
promise gives it back.

Who does not answer may be dead, so nobody is waited for longer than `PATIENCE_S`, though it is asked on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

PATIENCE_S = 1.0
_AGAIN_S = 0.1


class Life(NamedTuple):
    """One of an instance's lives: who was started anew is asked anew."""

    instance: str
    boot: str


@dataclass(slots=True)
class Inquiry:
    """One, for one virtual IP. `listed` are all others that etcd says are there."""

    _asked_s: float = float("-inf")
    _silent_since_s: dict[Life, float] = field(default_factory=dict)
    """Of those that have not answered, or were bound and have not said that they no longer are."""
    _until_s: dict[Life, float] = field(default_factory=dict)
    """Of those that have answered; 0 if it is not bound."""

    def note(self, life: Life, until_s: float) -> None:
        """It is bound until then."""
        self._until_s[life] = until_s
        self._silent_since_s.pop(life, None)

    def to_ask(self, listed: Collection[Life], now_s: float) -> set[str]:
        """Whom to ask now; to be called only if they are then asked."""
        asked = {life.instance for life in listed if self._until_s.get(life) != 0.0}
        if not asked or now_s - self._asked_s < _AGAIN_S:
            return set()
        self._asked_s = now_s
        return asked

    def wait_until_s(self, listed: Collection[Life], now_s: float) -> float:
        """When to look again; 0 if nothing is known that speaks against a claim."""
        bound_s = max(self._until_s.values(), default=0.0)
        if now_s < bound_s:
            return bound_s
        self._until_s = {life: 0.0 for life, until_s in self._until_s.items() if not until_s and life in listed}
        silent = [life for life in listed if life not in self._until_s]
        self._silent_since_s = {life: self._silent_since_s.get(life, now_s) for life in silent}
        waits = any(now_s < since_s + PATIENCE_S for since_s in self._silent_since_s.values())
        return now_s + _AGAIN_S if waits else 0.0
