"""A world of instances, etcd and messages in which anything can happen, for exploring all that can.

It is made of the real rules (`rules`, `promises`, `hold`, the timing) and a model of the rest: etcd is the
keys and leases of one election, time moves in ticks, and between two ticks every order of events is possible.
Messages are lost, late or out of order; requests to etcd are applied long after their sender has given up;
instances crash, forget, are upgraded, are frozen (they just do nothing) and are cut off from etcd; machines
lose power, and another one may be given a name; etcd is restored from an older copy, after it was away for a
window at least; clocks drift apart; the kernel is as late as it ever is in removing an address, and an address
is never removed in good time except where the rules rely on it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import PromiseBook, Round
from weldr.model.vip_timing import DRIFT, KERNEL_LATENESS_S, Timing
from weldr.model.vips import Holder

TIMING = Timing()
_SLOW, _FAST = 1 - DRIFT / 2, 1 + DRIFT / 2
"""The first holder's clock is slow, those that count against it are fast: the worst there is."""


def _brief(value: Any) -> Any:
    """What matters of a record; anything else as it is."""
    if not isinstance(value, Holder):
        return value
    machines = tuple(sorted(value.machines.items()))
    return value.token, value.state, tuple(value.peers), machines, value.doubted, value.host


@dataclass
class Node:
    """One instance."""

    name: str
    """Ours for it."""
    called: str
    """Its own; another one may have it, too."""
    machine: str
    kernel: str
    """Where its address is; instances on one host have one."""
    started: int = 0
    """How often that was."""
    knows: frozenset[tuple[str, str]] = frozenset()
    """Who has each name, by what it has last heard of etcd."""
    epoch: int = 0
    """Of the etcd that it has last heard of."""
    restored_s: float = -1000.0
    """When it found etcd restored."""
    claimed: int = 0
    """The token of whoever it knows to have claimed the address since then."""
    began_revision: int = 0
    """What it found in etcd first."""
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
    unsure: frozenset[tuple[str, str]] = frozenset()
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
                self.started,
                self.knows,
                self.epoch,
                self.restored_s,
                self.claimed,
                self.began_revision,
                self.alive,
                self.linked,
                self.listed,
                self.boot_s,
                word and (word.until_s, word.refused_token, word.known_token, word.promised_token),
                word and word.past_token,
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
    epoch: int = 0
    """How often etcd was restored."""
    away_s: float | None = None
    """Since when etcd answers nobody."""
    messages: tuple[tuple[Any, ...], ...] = ()
    """Sender, receiver, tick, and what."""
    faults: int = 0
    claims: int = 0

    def rate(self, node: Node) -> float:
        """How fast its clock runs."""
        return _SLOW if node.name == "a" else _FAST

    def clock(self, node: Node) -> float:
        """The node's own."""
        return self.now_s * self.rate(node)

    def holders(self) -> list[str]:
        """On which hosts the address may be."""
        return sorted({node.kernel for node in self.nodes.values() if self.now_s < node.address_until_s})

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

    def listed(self, node: Node) -> dict[str, Node]:
        """Who else is there, by etcd's word."""
        return {
            other.called: other
            for other in self.nodes.values()
            if other.called != node.called and other.listed and other.boot_s <= self.now_s
        }

    def name_is_taken(self, node: Node) -> bool:
        """Whether another one has its name, by etcd's word, as far as it hears that."""
        return (node.called, node.name) not in node.knows

    def arrive(self, node: Node) -> None:
        """It comes to etcd, for the first time or again: it is listed, and all who are there hear of it."""
        for other in self.nodes.values():
            if other.called == node.called:
                other.listed = other is node
        self.hear_of_all(node)
        if node.epoch != self.epoch:
            self.notice_restored(node)
        for other in self.nodes.values():
            if other.alive and other.linked and (node.called, node.name) not in other.knows:
                self.hear_of_all(other)

    def hear_of_all(self, node: Node) -> None:
        """It reads who is there. Who is there no longer is remembered."""
        was_taken = node.knows != frozenset() and self.name_is_taken(node)
        there = {other.called: other.name for other in self.nodes.values() if other.listed}
        node.knows = frozenset({**dict(node.knows), **there}.items())
        if was_taken or self.name_is_taken(node):
            node.boot_s, node.book.began_s = self.now_s, self.clock(node)

    def notice_restored(self, node: Node) -> None:
        node.epoch, node.restored_s, node.claimed = self.epoch, self.clock(node), 0
        node.book.start_over()

    def host(self, node: Node) -> str:
        """As in `identity.this_host`."""
        return f"{node.kernel}{node.started}/1"

    def new_record(self, node: Node, token: int) -> Holder:
        peers = self.listed(node)
        return Holder(
            instance=node.called,
            address="v",
            token=token,
            lease=token,
            state="held",
            since="",
            window_s=TIMING.window_s,
            promise_s=TIMING.promise_s,
            host=self.host(node),
            peers=sorted(peers),
            machines={name: other.machine for name, other in (peers | {node.called: node}).items()},
        )

    def see(self, node: Node) -> None:
        """A read of etcd that is answered at once."""
        self.note(node, self.record, self.revision)

    def note(self, node: Node, record: Holder | None, revision: int) -> None:
        """The node reads this."""
        if node.revision != revision:
            node.unsure = frozenset()
        node.record, node.revision = record, revision
        if record is not None and record.state == "held" and node.epoch:
            node.claimed = record.token
        if record is not None:
            node.book.learn("v", record.token)
            if record.token not in self.keys.values() and node.gone[0] != record.token:
                node.gone = (record.token, self.clock(node))

    def request(self, node: Node, what: str, *facts: Any) -> None:
        """It asks etcd."""
        node.request += 1
        self.messages += ((node.name, "etcd", self.now_s, what, node.request, node.token, *facts),)

    def send(self, sender: Node, receivers: Iterable[str], *what: Any) -> None:
        known = dict(sender.knows)
        self.messages += tuple(
            (sender.name, known[name], self.now_s, *what)
            for name in receivers
            if name != sender.called and name in known
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
            self.epoch,
            self.away_s,
            frozenset(tuple(map(_brief, message)) for message in self.messages),
            tuple(node.key() for node in self.nodes.values()),
        )


Scene = Literal["peers", "newcomer", "namesake", "neighbour", "restored"]
"""Who is there beside the holder `a` and its peer `b`: another peer; one that comes later; another peer, and
one that comes later and has the name of `b`; one that comes later, on the holder's host; one that comes later,
while etcd may be restored from a copy of before anybody was there."""


@dataclass(frozen=True)
class Limits:
    """How far to go."""

    ticks: int = 8
    tick_s: float = 1.0
    faults: int = 2
    messages: int = 3
    scene: Scene = "peers"


DEEP = Limits(ticks=24, tick_s=0.5, faults=3, messages=4)
"""For ways at random and for stories."""

NEVER_S = 500.0
"""A node that boots later than this has not been there yet."""
