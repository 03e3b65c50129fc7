"""A world of instances, etcd and messages in which anything can happen, for exploring all that can.

It is made of the real rules (`rules`, `promises`, `hold`, the timing) and a model of the rest: etcd is the
keys and leases of one election, time moves in ticks, and between two ticks every order of events is possible.
Messages are lost, late or out of order; requests to etcd are applied long after their sender has given up;
instances crash, forget, are frozen (they just do nothing) and are cut off from etcd; clocks drift apart; the
kernel is as late as it ever is in removing an address, and an address is never removed in good time except
where the rules rely on it.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import PromiseBook, Round
from weldr.control.vip.rules import AskPeers, Claim, Claimant, may_claim, window_over_s
from weldr.model.vip_timing import DRIFT, KERNEL_LATENESS_S, Timing, wait_s
from weldr.model.vips import Holder

TIMING = Timing()
_RATES = {"a": 1 - DRIFT / 2, "b": 1 + DRIFT / 2, "c": 1 + DRIFT / 2, "d": 1 + DRIFT / 2}
"""The first holder's clock is slow, those that count against it are fast: the worst there is."""


@dataclass
class Node:
    """One instance."""

    name: str
    alive: bool = True
    linked: bool = True
    """Whether it reaches etcd."""
    boot_s: float = -100.0
    book: PromiseBook = field(default_factory=PromiseBook)
    token: int | None = None
    busy: bool = False
    hold: Hold | None = None
    address_until_s: float = -1.0
    """In real time, with the kernel as late as can be."""
    round: Round | None = None
    refused: tuple[int, frozenset[str]] = (0, frozenset())
    gone: tuple[int, float] = (0, 0.0)
    record: Holder | None = None
    doubt: tuple[int, float] = (0, 0.0)
    unseated: int = 0
    unsure: frozenset[str] = frozenset()
    did: frozenset[str] = frozenset()
    """What it did in this tick: each thing once is enough."""
    known_key: Any = None

    def branch(self) -> Node:
        """One that can be changed."""
        after = copy.copy(self)
        after.book = PromiseBook({vip: copy.copy(word) for vip, word in self.book._words.items()})
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
            hold, asked, record = self.hold, self.round, self.record
            self.known_key = (
                self.alive,
                self.linked,
                self.boot_s,
                (word.until_s, word.refused_token, word.known_token) if word else None,
                self.token,
                self.busy,
                (hold.token, hold.window_end_s, hold.expires_s, hold.promised_until_s) if hold else None,
                self.address_until_s,
                (asked.number, asked.sent_s, frozenset(asked.waiting), bool(asked.refusal)) if asked else None,
                self.refused,
                self.gone,
                (record.token, record.state, tuple(record.peers), record.doubted) if record else None,
                self.doubt,
                self.unseated,
                self.did,
                self.unsure,
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

    def clock(self, node: Node) -> float:
        """The node's own."""
        return self.now_s * _RATES[node.name]

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
                name for name in self.nodes if name != node.name and self.nodes[name].boot_s <= self.now_s
            ),
        )

    def see(self, node: Node) -> None:
        """A read of etcd."""
        if node.record != self.record:
            node.unsure = frozenset()
        node.record = self.record
        if self.record is not None:
            node.book.learn("v", self.record.token)
            if self.record.token not in self.keys.values() and node.gone[0] != self.record.token:
                node.gone = (self.record.token, self.clock(node))

    def send(self, sender: Node, receivers: Iterator[str] | list[str], *what: Any) -> None:
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
        record = self.record
        return (
            self.now_s,
            frozenset(self.keys.items()),
            frozenset(self.leases.items()),
            (record.token, record.state, tuple(record.peers), record.doubted) if record else None,
            self.revision,
            self.faults,
            frozenset(self.messages),
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


_NEVER_S = 500.0
"""A node that boots later than this has not been there yet."""


def start(limits: Limits) -> World:
    """Instance a holds, b and c (or a newcomer d that comes later) are its peers."""
    names = ["a", "b"] if limits.newcomer else ["a", "b", "c"]
    world = World({name: Node(name) for name in names})
    for name in names:
        _stand(world, world.nodes[name])
    if limits.newcomer:
        world.nodes["d"] = Node("d", alive=False, boot_s=1000.0)
    first = world.nodes["a"]
    assert first.token is not None
    world.record = world.new_record(first, first.token)
    for node in world.nodes.values():
        world.see(node)
    _confirm(world, first, first_hold=True)
    return world


def choices(world: World, limits: Limits) -> list[tuple[Any, ...]]:
    """Everything that can happen next."""
    found: list[tuple[Any, ...]] = [
        (what, name) for name, node in world.nodes.items() for what in _possible(world, node, limits)
    ]
    for index in range(len(world.messages)):
        found += [("answered", index), ("arrives", index)]
    if world.now_s + limits.tick_s <= limits.ticks * limits.tick_s:
        found.append(("tick", limits.tick_s))
    return found


def do(world: World, choice: tuple[Any, ...]) -> World:
    """The world after that."""
    what, which = choice
    if what == "tick":
        after = world.branch(*world.nodes)
        _tick(after, which)
    elif what in ("answered", "arrives"):
        message = world.messages[which]
        after = world.branch(message[0], message[1])
        after.messages = world.messages[:which] + world.messages[which + 1 :]
        _deliver(after, message, answered=what == "answered")
    else:
        after = world.branch(which)
        _ACTIONS[what](after, after.nodes[which])
    return after


def told(world: World, choice: tuple[Any, ...]) -> str:
    """A choice in words."""
    what, which = choice
    message = world.messages[which] if what in ("answered", "arrives") else ""
    return f"{world.now_s:g}: {what} {message or which}"


def _possible(world: World, node: Node, limits: Limits) -> list[str]:
    faulty = world.faults < limits.faults
    if not node.alive:
        return ["boot"] if faulty or node.boot_s > _NEVER_S else []
    room = len(world.messages) < limits.messages
    found = ["ask"] if node.hold is not None and room else []
    if node.linked:
        found += _possible_with_etcd(world, node, room)
    found = [what for what in found if what not in node.did]
    if faulty:
        found += ["crash", "cut" if node.linked else "heal"]
    return found


def _possible_with_etcd(world: World, node: Node, room: bool) -> list[str]:
    record, queue = world.record, sorted(world.keys.values())
    if node.token is None:
        return ["stand"] if world.clock(node) >= node.book.until_s("v") else []
    if node.hold is not None:
        return ["confirm", "record"]
    found = ["confirm"] if record is not None and record.instance == node.name else []
    if world.clock(node) < node.book.until_s("v"):
        found.append("withdraw")
    if world.leader() == node.name and room:
        found.append("claim")
    if record is not None and queue[:1] == [record.token] and queue[1:2] == [node.token]:
        found += ["doubt", "unseat"] if node.name in record.peers else []
    return found


def _stand(world: World, node: Node) -> None:
    token = world.next_token
    world.next_token += 1
    world.keys[node.name] = node.token = token
    world.leases[token] = world.now_s + TIMING.ttl_s
    node.did |= {"stand"}


def _withdraw(world: World, node: Node) -> None:
    world.keys.pop(node.name, None)
    node.token = None


def _confirm(world: World, node: Node, *, first_hold: bool = False) -> None:
    node.did |= {"confirm"}
    node.busy = world.record is not None and world.record.doubted == node.name
    token, now = node.token, world.clock(node)
    if world.keys.get(node.name) != token or token is None:
        node.token = None
        if node.hold is not None and now >= node.hold.promised_until_s:
            node.hold = None
        return
    world.leases[token] = world.now_s + TIMING.ttl_s
    world.see(node)
    mine = world.record is not None and world.record.token == token and world.record.state == "held"
    if world.leader() != node.name:
        if node.hold is not None:
            _release(world, node)
        return
    if first_hold:
        node.hold = Hold(token, TIMING, now, now, now)
    if mine and node.hold is not None and node.hold.token == token:
        if world.record is not None and world.record.doubted:
            # One transaction takes the doubt away and confirms.
            world.revision += 1
            world.record = node.record = msgspec.structs.replace(world.record, doubted="")
        node.hold.confirm(now)
        world.set_address(node)


def _release(world: World, node: Node) -> None:
    node.hold = None
    node.address_until_s = -1.0
    world.keys.pop(node.name, None)
    if world.record is not None and world.record.token == node.token:
        world.record = msgspec.structs.replace(world.record, state="released")
        world.revision += 1
    node.token = None


def _claim(world: World, node: Node) -> None:
    node.did |= {"claim"}
    world.see(node)
    node.busy = node.record is not None and node.record.doubted == node.name
    record, now = node.record, world.clock(node)
    released = record is not None and record.state == "released"
    verdict = may_claim(
        record,
        Claimant(
            name=node.name,
            host=node.name,
            now_s=now,
            boot_s=node.boot_s * _RATES[node.name],
            promised_until_s=0.0 if released else node.book.until_s("v"),
            gone_since_s=node.gone[1],
            lease_gone=record is not None and world.leases.get(record.lease, -1.0) <= world.now_s,
            waited=record is not None and node.unseated == record.token,
            refused=record is not None and node.refused[0] == record.token and bool(node.refused[1]),
        ),
    )
    if isinstance(verdict, AskPeers) and record is not None:
        world.send(node, list(verdict.names), "refuse?", record.token)
    if isinstance(verdict, Claim):
        node.busy = True
        assert node.token is not None
        world.leases[node.token] = world.now_s + TIMING.ttl_s
        world.messages += ((node.name, "etcd", world.now_s, "claim", node.token, world.revision),)


def _ask(world: World, node: Node) -> None:
    node.did |= {"ask"}
    hold, record = node.hold, node.record
    assert hold is not None
    peers = {*(record.peers if record is not None else ()), *node.unsure}
    if peers:
        number = 1 + (node.round.number if node.round is not None else 0)
        node.round = Round(number, world.clock(node), hold.token, set(peers))
        world.send(node, sorted(peers), "promise?", number, hold.token)


def _doubt(world: World, node: Node) -> None:
    node.did |= {"doubt"}
    world.see(node)
    record, now = world.record, world.clock(node)
    assert record is not None
    if now < max((node.boot_s * _RATES[node.name]) + wait_s(record.promise_s), node.book.until_s("v")):
        return
    node.busy = True
    world.revision += 1
    world.record = node.record = msgspec.structs.replace(record, doubted=node.name)
    node.doubt = (world.revision, now)


def _unseat(world: World, node: Node) -> None:
    node.did |= {"unseat"}
    record, now = world.record, world.clock(node)
    if record is None or node.doubt[0] != world.revision or now < node.book.until_s("v"):
        return
    if now < window_over_s(node.doubt[1], now, _idle_s(world, record.lease), record.window_s):
        return
    holder = next(name for name, token in world.keys.items() if token == record.token)
    del world.keys[holder]
    node.unseated = record.token
    world.see(node)


def _idle_s(world: World, lease: int) -> float:
    """For how long nobody has renewed it: etcd tells what is left in whole seconds."""
    left_s = int(world.leases.get(lease, world.now_s + TIMING.ttl_s) - world.now_s)
    return float(max(0, TIMING.ttl_s - left_s - 1))


def _record(world: World, node: Node) -> None:
    """The holder writes who its peers are; until it knows that it did, it asks the old ones and the new
    ones."""
    node.did |= {"record"}
    record, token = node.record, node.token
    if token is None or record is None or record.token != token or record.state != "held":
        return
    new = world.new_record(node, token)
    if sorted(new.peers) == sorted(record.peers):
        return
    node.unsure = frozenset(new.peers)
    world.messages += ((node.name, "etcd", world.now_s, "record", token, tuple(new.peers), world.revision),)


def _crash(world: World, node: Node) -> None:
    world.faults += 1
    node.alive = False


def _boot(world: World, node: Node) -> None:
    if node.boot_s < _NEVER_S:
        world.faults += 1
    fresh = Node(node.name, boot_s=world.now_s, address_until_s=node.address_until_s, linked=True)
    world.nodes[node.name] = fresh


def _cut(world: World, node: Node) -> None:
    world.faults += 1
    node.linked = False


def _heal(world: World, node: Node) -> None:
    node.linked = True


def _deliver(world: World, message: tuple[Any, ...], *, answered: bool) -> None:
    """A message arrives, and its answer, too, or not."""
    sender, receiver, sent_s, what, *facts = message
    asker = world.nodes[sender]
    if receiver == "etcd":
        _apply(world, asker, sent_s, what, facts, answered=answered)
        return
    node = world.nodes[receiver]
    if not node.alive or node.boot_s > sent_s:
        return
    now = world.clock(node)
    answered = answered and asker.alive and asker.boot_s <= sent_s
    if what == "promise?":
        number, token = facts
        refusal = node.book.promise("v", token, TIMING.promise_s, now, busy=world.busy(node))
        if answered:
            _hear_promise(world, asker, receiver, number, refusal or "")
    else:
        (token,) = facts
        uses = node.token == token or (node.hold is not None and node.hold.token == token)
        if not uses and node.book.refuse("v", token, now) == 0 and answered:
            before = asker.refused[1] if asker.refused[0] == token else frozenset()
            asker.refused = (token, before | {receiver})


def _hear_promise(world: World, node: Node, peer: str, number: int, refusal: str) -> None:
    asked = node.round
    if asked is not None and asked.number == number and asked.note(peer, refusal):
        node.round = None
        if node.hold is not None and node.hold.token == asked.token:
            node.hold.promise(asked.sent_s)
            world.set_address(node)


def _apply(world: World, node: Node, sent_s: float, what: str, facts: list[Any], *, answered: bool) -> None:
    """etcd does it, if what it compares still holds."""
    token, *rest = facts
    revision = rest[-1]
    if world.keys.get(node.name) != token or world.revision != revision:
        return
    world.revision += 1
    heard = answered and node.alive and node.linked and node.token == token
    if what == "record":
        assert world.record is not None
        world.record = msgspec.structs.replace(world.record, peers=list(rest[0]), doubted="")
        if heard:
            world.see(node)
        return
    world.record = world.new_record(node, token)
    world.claims += 1
    if heard and node.busy and world.leader() == node.name:
        node.busy = False
        world.see(node)
        sent = sent_s * _RATES[node.name]
        node.hold = Hold(token, TIMING, sent, sent, sent)
        node.hold.confirm(sent)
        world.set_address(node)


def _tick(world: World, tick_s: float) -> None:
    world.now_s = round(world.now_s + tick_s, 3)
    for node in world.nodes.values():
        # A candidate that only waits renews in time; whether it does is of no importance to anybody's safety.
        waits = node.alive and node.linked and node.hold is None and node.token is not None
        if waits and world.keys.get(node.name) == node.token:
            world.leases[world.keys[node.name]] = world.now_s + TIMING.ttl_s
    ended = {token for token, end_s in world.leases.items() if end_s <= world.now_s}
    for name in [name for name, token in world.keys.items() if token in ended]:
        del world.keys[name]
    for token in ended:
        del world.leases[token]
    # What is older has arrived, or is lost.
    world.messages = tuple(message for message in world.messages if world.now_s - message[2] < 3 * tick_s)
    for node in world.nodes.values():
        node.did = frozenset()
        if node.alive and node.hold is not None and world.clock(node) >= node.hold.expires_s:
            node.hold = None


_ACTIONS = {
    "stand": _stand,
    "withdraw": _withdraw,
    "confirm": _confirm,
    "claim": _claim,
    "ask": _ask,
    "doubt": _doubt,
    "unseat": _unseat,
    "record": _record,
    "crash": _crash,
    "boot": _boot,
    "cut": _cut,
    "heal": _heal,
}


@dataclass
class Found:
    """What an exploration found."""

    worlds: int = 0
    whole: bool = False
    """Whether there are no more."""
    claims: int = 0
    double: list[str] | None = None
    """How two hosts came to hold the address."""


def explore(limits: Limits, most: int) -> Found:
    """Every world that can come of the first, in order of steps, until `most` of them were seen."""
    first = start(limits)
    seen = {first.key()}
    frontier: list[tuple[World, tuple[Any, ...]]] = [(first, ())]
    found = Found()
    while frontier and found.worlds < most:
        upcoming: list[tuple[World, tuple[Any, ...]]] = []
        for world, path in frontier:
            for choice in choices(world, limits):
                after = do(world, choice)
                key = after.key()
                if key in seen:
                    continue
                seen.add(key)
                found.worlds += 1
                found.claims += after.claims > world.claims
                steps = (path, told(world, choice))
                if len(after.holders()) > 1:
                    found.double = _unfold(steps)
                    return found
                upcoming.append((after, steps))
                if found.worlds >= most:
                    return found
        frontier = upcoming
    found.whole = not frontier
    return found


def wander(limits: Limits, seed: int, walks: int) -> Found:
    """Random ways through far more worlds than can all be seen; the same for the same seed.

    On each way other things are likely. Where everything is as likely as everything else, what takes many
    unlikely steps in a row never happens.
    """
    chance = random.Random(seed)
    found = Found()
    for _ in range(walks):
        world = start(limits)
        steps: list[str] = []
        likely: dict[Any, float] = {}
        while possible := choices(world, limits):
            kinds = [_kind(world, choice) for choice in possible]
            weights = [likely.setdefault(kind, chance.choice(_LIKELY)) for kind in kinds]
            (choice,) = chance.choices(possible, weights)
            steps.append(told(world, choice))
            after = do(world, choice)
            found.worlds += 1
            found.claims += after.claims > world.claims
            world = after
            if len(world.holders()) > 1:
                found.double = steps
                return found
    return found


def _kind(world: World, choice: tuple[Any, ...]) -> Any:
    what, which = choice
    return (
        (what, *world.messages[which][:2])
        if what in ("answered", "arrives")
        else what
        if what == "tick"
        else choice
    )


_LIKELY = (0.02, 0.3, 1.0, 10.0)


def _unfold(steps: tuple[Any, ...]) -> list[str]:
    lines: list[str] = []
    while steps:
        steps, line = steps
        lines.append(line)
    return lines[::-1]


def main() -> None:
    """Search for as long as one likes."""
    worlds, seed = int(sys.argv[1]), random.randrange(1 << 32) if len(sys.argv) < 3 else int(sys.argv[2])
    print(f"seed {seed}")
    for newcomer in (False, True):
        for found in (
            explore(Limits(newcomer=newcomer), worlds),
            wander(Limits(24, 0.5, faults=4, messages=4, newcomer=newcomer), seed, worlds // 50),
        ):
            print(
                f"{found.worlds} worlds, {found.claims} claims",
                *(found.double or ["no double holder"]),
                sep="\n",
            )


if __name__ == "__main__":
    main()
