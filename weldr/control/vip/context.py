"""What all virtual IPs of an instance share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from weldr.control.vip.peers import PeerNetwork
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.view import View
from weldr.etcd.client import EtcdClient
from weldr.etcd.clock import now_s
from weldr.etcd.election import Contender
from weldr.model.keys import KeySpace
from weldr.model.vips import Vip, priority_of

_LEAST_GAP_S = 5.0
"""One at a time: what was given away has to arrive before anybody counts again."""


@dataclass(slots=True)
class Context:
    """One for each instance."""

    me: str
    host: str
    machine: str
    boot_s: float
    client: EtcdClient
    keys: KeySpace
    view: View
    book: PromiseBook
    peers: PeerNetwork
    useless: Callable[[Vip], str | None]
    """Why this instance would serve nobody at that address."""
    on_change: Callable[[], None]
    """Called when any of them is in another state."""
    zone: str = ""
    """Where this instance is."""
    transitions: Counter[tuple[str, Literal["got", "lost"]]] = field(default_factory=Counter)
    """How often this instance got and lost each."""
    _first_seen_s: dict[tuple[str, int], float] = field(default_factory=dict)
    _gave_away_s: float = float("-inf")

    def forget_transitions(self, name: str) -> None:
        """There is no such virtual IP any more."""
        for key in [key for key in self.transitions if key[0] == name]:
            del self.transitions[key]
        self.note_queue(name, (), 0.0)

    def peers_now(self) -> dict[str, str]:
        """All other instances that take part in elections, and the machine that each is on."""
        return {name: peer.machine for name, peer in self.view.peers.items() if name != self.me}

    def others_in(self, queue: Iterable[Contender]) -> bool:
        """Whether another instance stands, too."""
        me = self.me.encode()
        return any(contender.value != me for contender in queue)

    def better(self, name: str, vip: Vip, queue: Sequence[Contender]) -> bool:
        """Whether somebody behind us should have it rather than we: of higher priority, or holding fewer.

        Only those that are heard count. To step back for one that is dead would cost the time of its lease.
        """
        mine = self._rank(name, vip, self.me)
        heard = set(self.peers.hearing.heard_now())
        others = {contender.value.decode("utf-8", "replace") for contender in queue}
        return any(self._rank(name, vip, other) > mine for other in (others & heard) - {self.me})

    def note_queue(self, name: str, queue: Sequence[Contender], now: float) -> None:
        """Remember since when each candidate stands."""
        tokens = {contender.token for contender in queue}
        for key in [key for key in self._first_seen_s if key[0] == name and key[1] not in tokens]:
            del self._first_seen_s[key]
        for token in tokens:
            self._first_seen_s.setdefault((name, token), now)

    def give_away(self, name: str, vip: Vip, queue: Sequence[Contender]) -> str:
        """Why a virtual IP that is held here should go to another instance that has stood for long enough."""
        now, heard = now_s(), set(self.peers.hearing.heard_now())
        if now - self._gave_away_s < _LEAST_GAP_S:
            return ""
        for contender in queue:
            other = contender.value.decode("utf-8", "replace")
            stands_s = now - self._first_seen_s.get((name, contender.token), now)
            if other == self.me or other not in heard or stands_s < vip.hold_down_s:
                continue
            reason = self._better_place(name, vip, other)
            if reason:
                self._gave_away_s = now
                return reason
        return ""

    def _better_place(self, name: str, vip: Vip, other: str) -> str:
        priority, others = self._priority(vip, self.me), self._priority(vip, other)
        if others > priority:
            return f"{other} has a higher priority" if vip.preempt else ""
        if others == priority and self.load(self.me) - self.load(other) >= 2:
            return f"{other} holds fewer"
        return ""

    def _rank(self, name: str, vip: Vip, instance: str) -> tuple[int, int]:
        return self._priority(vip, instance), -self.load(instance, but=name)

    def _priority(self, vip: Vip, instance: str) -> int:
        peer = self.view.peers.get(instance)
        zone = self.zone if instance == self.me else peer.zone if peer is not None else ""
        return priority_of(vip, instance, zone)

    def load(self, instance: str, *, but: str = "") -> int:
        """How many virtual IPs an instance holds."""
        return sum(
            holder.state == "held" and holder.instance == instance
            for name, holder in self.view.holders.items()
            if name != but and name in self.view.vips
        )
