"""A world of instances, etcd and messages in which anything can happen, for exploring all that can.

It is made of the real rules (`rules`, `promises`, `hold`, the timing) and a model of the rest: etcd is the
keys and leases of one election, time moves in ticks, and between two ticks every order of events is possible.
Messages are lost, late or out of order; requests to etcd are applied long after their sender has given up;
instances crash, forget, are upgraded, are frozen (they just do nothing) and are cut off from etcd; clocks drift
apart; the kernel is as late as it ever is in removing an address, and an address is never removed in good time
except where the rules rely on it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import PromiseBook, Round
from weldr.model.vip_timing import DRIFT, KERNEL_LATENESS_S, Timing
from weldr.model.vips import Holder

TIMING = Timing()
_RATES = {"a": 1 - DRIFT / 2, "b": 1 + DRIFT / 2, "c": 1 + DRIFT / 2, "d": 1 + DRIFT / 2}
"""The first holder's clock is slow, those that count against it are fast: the worst there is."""


def _brief(value: Any) -> Any:
    """What matters of a record; anything else as it is."""
    if not isinstance(value, Holder):
        return value
    return value.token, value.state, tuple(value.peers), value.doubted


@dataclass
class Node:
    """One instance."""

    name: str
    alive: bool = True
    linked: bool = True
    """Whether it reaches etcd."""
    listed: bool = True
    """Whether etcd says that it is there."""
    boot_s: float = -100.0
    book: PromiseBook = field(default_factory=lambda: PromiseBook(-100.0))
    token: int | None = None
    busy: bool = False
    hold: Hold | None = None
    address_until_s: float = -1.0
    """In real time, with the kernel as late as can be."""
    round: Round | None = None
    refused: tuple[int, frozenset[str]] = (0, frozenset())
    gone: tuple[int, float] = (0, 0.0)
    record: Holder | None = None
    doubt: tuple[int, float, float] = (0, 0.0, 0.0)
    """The revision of the record that has it, since when, and when the holder's window is over."""
    unseated: int = 0
    unsure: frozenset[str] = frozenset()
    revision: int = 0
    """Of `record`."""
    request: int = 0
    """The number of the last request to etcd."""
    did: frozenset[str] = frozenset()
    """What it did in this tick: each thing once is enough."""
    known_key: Any = None

    def branch(self) -> Node:
        """One that can be changed."""
        after = copy.copy(self)
        words = {vip: copy.copy(word) for vip, word in self.book._words.items()}
        after.book = PromiseBook(self.book.began_s, words)
        after.hold = copy.copy(self.hold)
        after.round = copy.copy(self.round)
        if after.round is not None:
            after.round.waiting = set(after.round.waiting)
        after.known_key = None
        return after

    def key(self) -> Any:
        """Equal for nodes that behave alike."""
        if self.known_key is None:
            word = self.book._words.get("v")
            hold, asked = self.hold, self.round
            self.known_key = (
                self.alive,
                self.linked,
                self.listed,
                self.boot_s,
                (word.until_s, word.refused_token, word.known_token, word.promised_token) if word else None,
                self.token,
                self.busy,
                (hold.token, hold.window_end_s, hold.expires_s, hold.promised_until_s) if hold else None,
                self.address_until_s,
                (asked.number, asked.sent_s, frozenset(asked.waiting), bool(asked.refusal)) if asked else None,
                self.refused,
                self.gone,
                _brief(self.record),
                self.doubt,
                self.unseated,
                self.did,
                self.unsure,
                self.revision,
                self.request,
            )
        return self.known_key


@dataclass
class World:
    """Everything, at one moment."""

    nodes: dict[str, Node]
    now_s: float = 0.0
    keys: dict[str, int] = field(default_factory=dict)
    leases: dict[int, float] = field(default_factory=dict)
    """When the lease of each token ends; a lease outlives a key that was deleted."""
    record: Holder | None = None
    revision: int = 1
    next_token: int = 1
    messages: tuple[tuple[Any, ...], ...] = ()
    """Sender, receiver, tick, and what."""
    faults: int = 0
    claims: int = 0

    def rate(self, node: Node) -> float:
        """How fast its clock runs."""
        return _RATES[node.name]

    def clock(self, node: Node) -> float:
        """The node's own."""
        return self.now_s * self.rate(node)

    def holders(self) -> list[str]:
        """On which hosts the address may be."""
        return [node.name for node in self.nodes.values() if self.now_s < node.address_until_s]

    def leader(self) -> str | None:
        return min(self.keys, key=lambda name: self.keys[name], default=None)

    def busy(self, node: Node) -> bool:
        return node.busy or node.hold is not None

    def set_address(self, node: Node) -> None:
        hold = node.hold
        if hold is None:
            return
        if self.clock(node) > hold.latest_set_s:
            # Too late: `set_address` takes it back, and the driver takes it down.
            node.hold = None
            return
        hold.note_set(self.clock(node))
        node.address_until_s = self.now_s + TIMING.lifetime_s + KERNEL_LATENESS_S

    def new_record(self, node: Node, token: int) -> Holder:
        return Holder(
            instance=node.name,
            address="v",
            token=token,
            lease=token,
            state="held",
            since="",
            window_s=TIMING.window_s,
            promise_s=TIMING.promise_s,
            host=node.name,
            peers=sorted(
                other.name
                for other in self.nodes.values()
                if other.name != node.name and other.listed and other.boot_s <= self.now_s
            ),
        )

    def see(self, node: Node) -> None:
        """A read of etcd that is answered at once."""
        self.note(node, self.record, self.revision)

    def note(self, node: Node, record: Holder | None, revision: int) -> None:
        """The node reads this."""
        if node.revision != revision:
            node.unsure = frozenset()
        node.record, node.revision = record, revision
        if record is not None:
            node.book.learn("v", record.token)
            if record.token not in self.keys.values() and node.gone[0] != record.token:
                node.gone = (record.token, self.clock(node))

    def send(self, sender: Node, receivers: Iterable[str], *what: Any) -> None:
        self.messages += tuple(
            (sender.name, name, self.now_s, *what) for name in receivers if name != sender.name
        )

    def branch(self, *names: str) -> World:
        """One in which these nodes, and all but the other nodes, can be changed."""
        after = copy.copy(self)
        after.nodes = {name: node.branch() if name in names else node for name, node in self.nodes.items()}
        after.keys, after.leases = dict(self.keys), dict(self.leases)
        return after

    def key(self) -> Any:
        """Equal for worlds that behave alike."""
        return (
            self.now_s,
            frozenset(self.keys.items()),
            frozenset(self.leases.items()),
            _brief(self.record),
            self.revision,
            self.faults,
            frozenset(tuple(map(_brief, message)) for message in self.messages),
            tuple(node.key() for node in self.nodes.values()),
        )


@dataclass(frozen=True)
class Limits:
    """How far to go."""

    ticks: int = 8
    tick_s: float = 1.0
    faults: int = 2
    messages: int = 3
    newcomer: bool = False


NEVER_S = 500.0
"""A node that boots later than this has not been there yet."""
