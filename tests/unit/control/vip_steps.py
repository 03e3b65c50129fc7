"""What can happen in the world next, and what it does.

A request to etcd is done and answered at once; or done, and its answer comes later or never; or it is done long
after its sender has given it up. An instance waits for one answer at a time: an earlier one means nothing to it
any more.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tests.unit.control import vip_faults
from tests.unit.control.vip_arrivals import acquire, deliver
from tests.unit.control.vip_world import NEVER_S, TIMING, Limits, Node, Scene, World
from weldr.control.vip.promises import Round
from weldr.control.vip.rules import (
    NOBODY,
    AskPeers,
    Claim,
    Claimant,
    is_own,
    may_claim,
    released_token,
    to_be_asked,
    window_over_s,
)
from weldr.model.vip_timing import wait_s
from weldr.model.vips import is_same_instance

_DELIVERIES = ("answered", "arrives", "waits")


def choices(world: World, limits: Limits) -> list[tuple[Any, ...]]:
    """Everything that can happen next."""
    found: list[tuple[Any, ...]] = [
        (what, name) for name, node in world.nodes.items() for what in _possible(world, node, limits)
    ]
    for index, message in enumerate(world.messages):
        if message[0] == "etcd":
            found.append(("answered", index))
        else:
            found += [(how, index) for how in _DELIVERIES[: 3 if message[1] == "etcd" else 2]]
    if world.away_s is not None and world.now_s >= world.away_s + TIMING.window_s:
        found.append(("restore", ""))
    elif limits.scene == "restored" and not world.epoch and world.away_s is None:
        found.append(("lose", ""))
    if world.now_s + limits.tick_s <= limits.ticks * limits.tick_s:
        found.append(("tick", limits.tick_s))
    return found


def do(world: World, choice: tuple[Any, ...]) -> World:
    """The world after that."""
    what, which = choice
    if what == "tick":
        after = world.branch(*world.nodes)
        _tick(after, which)
    elif what in ("lose", "restore"):
        after = world.branch(*world.nodes)
        vip_faults.lose(after) if what == "lose" else vip_faults.restore(after)
    elif what in _DELIVERIES:
        message = world.messages[which]
        after = world.branch(message[0], message[1])
        after.messages = world.messages[:which] + world.messages[which + 1 :]
        deliver(after, message, what)
    else:
        # Whoever comes is heard of by all.
        after = world.branch(*(world.nodes if what in ("boot", "heal") else (which,)))
        _ACTIONS[what](after, after.nodes[which])
    return after


def told(world: World, choice: tuple[Any, ...]) -> str:
    """A choice in words."""
    what, which = choice
    return f"{world.now_s:g}: {what} {world.messages[which] if what in _DELIVERIES else which}"


def kind(world: World, choice: tuple[Any, ...]) -> Any:
    """What choices have in common that are about as likely."""
    what, which = choice
    if what in _DELIVERIES:
        return (what, *world.messages[which][:2])
    return what if what == "tick" else choice


def _possible(world: World, node: Node, limits: Limits) -> list[str]:
    # Nobody could tell who comes later of a holder whose peers are all gone from etcd, too.
    faulty = world.faults < limits.faults and (limits.scene != "restored" or node.name != "b")
    departs = ["depart"] if node.listed and not (node.alive and node.linked) and node.boot_s < NEVER_S else []
    if not node.alive and world.away_s is not None:
        return departs
    if not node.alive:
        return ["boot", *departs] if faulty or node.boot_s > NEVER_S else departs
    room, etcd = len(world.messages) < limits.messages, node.linked and world.away_s is None
    found = departs + (["ask"] if node.hold is not None and room else [])
    if etcd:
        found += _possible_with_etcd(world, node, room)
    found = [what for what in found if what not in node.did]
    if faulty:
        found += ["crash"]
        found += ["cut" if node.linked else "heal"] if world.away_s is None else []
        found += ["power"] if world.now_s < node.address_until_s else []
        found += ["upgrade"] if node.token is not None else []
        found += ["release"] if node.hold is not None and node.token is not None and etcd and room else []
    return found


def _possible_with_etcd(world: World, node: Node, room: bool) -> list[str]:
    record, queue = world.record, sorted(world.keys.values())
    promised = world.clock(node) < node.book.until_s("v")
    if node.token is None:
        return ["stand"] if node.hold is not None or not promised else []
    if not room:
        return []
    found = ["confirm"] if node.hold is not None or (record and record.instance == node.called) else []
    if node.hold is not None and node.hold.token == node.token:
        return [*found, "record"]
    if promised and node.hold is None:
        found.append("withdraw")
    if world.leader() == node.name:
        found.append("claim")
    if record is not None and queue[:1] == [record.token] and queue[1:2] == [node.token]:
        is_peer = node.called in record.peers and is_same_instance(record, node.called, node.machine)
        found += ["doubt", "unseat", "vacate"] if is_peer else []
    return found


# --- what an instance does


def stand(world: World, node: Node) -> None:
    token = world.next_token
    world.next_token += 1
    world.keys[node.name] = node.token = token
    world.leases[token] = world.now_s + TIMING.ttl_s
    node.did |= {"stand"}


def _withdraw(world: World, node: Node) -> None:
    world.keys.pop(node.name, None)
    node.token = None


def _confirm(world: World, node: Node) -> None:
    node.did |= {"confirm"}
    world.request(node, "confirm")


def _claim(world: World, node: Node) -> None:
    node.did |= {"claim"}
    world.see(node)
    node.busy = node.record is not None and node.record.doubted == node.called
    record, now = node.record, world.clock(node)
    promised_until_s = node.book.until_s("v", released=released_token(record))
    verdict = may_claim(
        record,
        Claimant(
            name=NOBODY if world.name_is_taken(node) else node.called,
            host=world.host(node),
            machine=node.machine,
            now_s=now,
            boot_s=node.boot_s * world.rate(node),
            promised_until_s=promised_until_s,
            gone_since_s=node.gone[1],
            lease_gone=record is not None and world.leases.get(record.lease, -1.0) <= world.now_s,
            waited=record is not None and node.unseated == record.token,
            refused=record is not None
            and node.refused[0] == record.token
            and bool(node.refused[1] & {*record.peers, record.instance}),
        ),
    )
    if isinstance(verdict, AskPeers) and record is not None:
        world.send(node, verdict.names, "refuse?", record.token)
    if isinstance(verdict, Claim) and (node.hold is not None or is_known_to_be_free(world, node)):
        node.busy = True
        peers = claimed_peers(world, node)
        _may_name(world, node, peers)
        world.request(node, "claim", tuple(sorted(peers.items())), world.revision)


def is_known_to_be_free(world: World, node: Node) -> bool:
    """What `judge.py` asks beyond the record: of a restored etcd, and, if the record is older than it, of all
    who are there. They answer at once; who cannot be reached at all is for `inquiry.py`."""
    record, now = node.record, world.clock(node)
    if now < node.restored_s + wait_s(TIMING.promise_s):
        return False
    of_this_life = record is not None and node.revision > node.began_revision
    if of_this_life or (record is not None and is_own(record, node.called, world.host(node), node.machine)):
        return True
    me = (node.called, node.name)
    there = [other for other in world.listed(node).values() if other.alive and me in other.knows]
    token = record.token if record is not None else 0
    return not any(_is_bound(world, other, token) for other in there)


def _is_bound(world: World, node: Node, token: int) -> bool:
    """By a promise, or by holding the address by another token."""
    left_behind = node.hold is None and world.now_s < node.address_until_s
    until_s = node.hold.window_end_s if node.hold is not None and node.hold.token != token else 0.0
    promised_s = node.book.until_s("v", released=released_token(node.record))
    return left_behind or world.clock(node) < max(
        until_s, promised_s, node.restored_s + wait_s(TIMING.promise_s)
    )


def _named(world: World, node: Node) -> set[tuple[str, str]]:
    """Whom the record names, as far as it knows, and on which machines."""
    record = node.record
    read = {(peer, record.machines.get(peer, "")) for peer in record.peers} if record is not None else set()
    return read | node.unsure


def _may_name(world: World, node: Node, peers: dict[str, str]) -> None:
    """Its record is about to name these; until it knows that it does, it asks all."""
    named = to_be_asked(peers)
    if node.hold is not None and not named <= _named(world, node):
        node.hold.forget_promises(world.clock(node))
    node.unsure |= named


def claimed_peers(world: World, node: Node) -> dict[str, str]:
    """Who has it by promises names nobody that was not asked for one."""
    peers, named = peers_now(world, node), {name for name, _ in _named(world, node)}
    asked = {name: machine for name, machine in peers.items() if name in named}
    return asked if node.hold is not None and asked else peers


def peers_now(world: World, node: Node) -> dict[str, str]:
    """As in `Context`."""
    return {name: other.machine for name, other in world.listed(node).items()}


def _record(world: World, node: Node) -> None:
    """The holder writes who its peers are, and that it lives; until it knows that it did, it asks all."""
    node.did |= {"record"}
    record, token = node.record, node.token
    if token is None or record is None or record.token != token or record.state != "held":
        return
    peers = peers_now(world, node)
    kept = msgspec.structs.replace(world.new_record(node, token), host=record.host)
    if kept == msgspec.structs.replace(record, peers=sorted(record.peers)):
        return
    _may_name(world, node, peers)
    world.request(node, "record", tuple(sorted(peers.items())), node.revision)


def _ask(world: World, node: Node) -> None:
    node.did |= {"ask"}
    hold = node.hold
    assert hold is not None
    peers = {
        name if is_reachable(world, node, name, machine) else NOBODY for name, machine in _named(world, node)
    }
    if peers:
        number = 1 + (node.round.number if node.round is not None else 0)
        node.round = Round(number, world.clock(node), hold.token, set(peers))
        world.send(node, sorted(peers), "promise?", number, hold.token)


def is_reachable(world: World, node: Node, name: str, machine: str) -> bool:
    """As in `Record`: whether the peer of that name is yet the one on that machine."""
    known = dict(node.knows)
    return name not in known or machine in ("", world.nodes[known[name]].machine)


def _doubt(world: World, node: Node) -> None:
    node.did |= {"doubt"}
    world.see(node)
    record, now = world.record, world.clock(node)
    assert record is not None
    if now < max((node.boot_s * world.rate(node)) + wait_s(record.promise_s), node.book.until_s("v")):
        return
    node.busy = True
    world.request(node, "doubt", world.revision)


def _vacate(world: World, node: Node) -> None:
    """It unseats the holder for an instance that is to have the address rather than itself."""
    _unseat(world, node, "vacate")


def _unseat(world: World, node: Node, what: str = "unseat") -> None:
    node.did |= {what}
    record, now = world.record, world.clock(node)
    if record is None or node.doubt[0] != world.revision or now < node.book.until_s("v"):
        return
    revision, cast_s, known_s = node.doubt
    over_s = min(known_s, window_over_s(cast_s, now, idle_s(world, record.lease), record.window_s))
    node.doubt = (revision, cast_s, over_s)
    if now < over_s:
        return
    world.request(node, what, record.token, world.revision)


def idle_s(world: World, lease: int) -> float:
    """For how long nobody has renewed it: etcd tells what is left in whole seconds."""
    left_s = int(world.leases.get(lease, world.now_s + TIMING.ttl_s) - world.now_s)
    return float(max(0, TIMING.ttl_s - left_s - 1))


def _tick(world: World, tick_s: float) -> None:
    world.now_s = round(world.now_s + tick_s, 4)
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
    "stand": stand,
    "withdraw": _withdraw,
    "confirm": _confirm,
    "claim": _claim,
    "ask": _ask,
    "doubt": _doubt,
    "unseat": _unseat,
    "vacate": _vacate,
    "record": _record,
    "crash": vip_faults.crash,
    "power": vip_faults.power,
    "boot": vip_faults.boot,
    "cut": vip_faults.cut,
    "heal": vip_faults.heal,
    "release": vip_faults.give_up,
    "upgrade": vip_faults.upgrade,
    "depart": vip_faults.depart,
}


_SCENES: dict[Scene, tuple[str, str]] = {
    "peers": ("abc", ""),
    "newcomer": ("ab", "d"),
    "namesake": ("abc", "e"),
    "neighbour": ("ab", "n"),
    "restored": ("ab", "d"),
}
"""Who is there, and who comes later."""


def start(limits: Limits) -> World:
    """The first scene: instance a holds, and the others are its peers, unless they come later."""
    names, later = _SCENES[limits.scene]
    world = World({})
    if limits.scene == "restored":
        world.next_token = 1001
    for name in names + later:
        kernel = "a" if name == "n" else name
        node = Node(name, "b" if name == "e" else name, kernel, kernel)
        if name in later:
            node.alive = node.linked = node.listed = False
            node.boot_s = 2 * NEVER_S
        world.nodes[name] = node
    for name in names:
        world.arrive(world.nodes[name])
        stand(world, world.nodes[name])
    first = world.nodes["a"]
    assert first.token is not None
    world.record = world.new_record(first, first.token)
    for node in world.nodes.values():
        if node.alive:
            world.see(node)
        node.did = frozenset()
    acquire(world, first, first.token, 0.0)
    return world
