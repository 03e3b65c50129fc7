"""What can happen in the world next, and what it does.

A request to etcd is done and answered at once; or done, and its answer comes later or never; or it is done long
after its sender has given it up. An instance waits for one answer at a time: an earlier one means nothing to it
any more.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tests.unit.control.vip_world import NEVER_S, TIMING, Limits, Node, World
from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import PromiseBook, Round
from weldr.control.vip.rules import AskPeers, Claim, Claimant, may_claim, window_over_s
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder

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
    if world.now_s + limits.tick_s <= limits.ticks * limits.tick_s:
        found.append(("tick", limits.tick_s))
    return found


def do(world: World, choice: tuple[Any, ...]) -> World:
    """The world after that."""
    what, which = choice
    if what == "tick":
        after = world.branch(*world.nodes)
        _tick(after, which)
    elif what in _DELIVERIES:
        message = world.messages[which]
        after = world.branch(message[0], message[1])
        after.messages = world.messages[:which] + world.messages[which + 1 :]
        _deliver(after, message, what)
    else:
        after = world.branch(which)
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
    faulty = world.faults < limits.faults
    if not node.alive:
        return ["boot"] if faulty or node.boot_s > NEVER_S else []
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
    promised = world.clock(node) < node.book.until_s("v")
    if node.token is None:
        return ["stand"] if node.hold is not None or not promised else []
    if not room:
        return []
    found = ["confirm"] if node.hold is not None or (record and record.instance == node.name) else []
    if node.hold is not None and node.hold.token == node.token:
        return [*found, "record"]
    if promised and node.hold is None:
        found.append("withdraw")
    if world.leader() == node.name:
        found.append("claim")
    if record is not None and queue[:1] == [record.token] and queue[1:2] == [node.token]:
        found += ["doubt", "unseat"] if node.name in record.peers else []
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


def _request(world: World, node: Node, what: str, *facts: Any) -> None:
    node.request += 1
    world.messages += ((node.name, "etcd", world.now_s, what, node.request, node.token, *facts),)


def _confirm(world: World, node: Node) -> None:
    node.did |= {"confirm"}
    _request(world, node, "confirm")


def _claim(world: World, node: Node) -> None:
    node.did |= {"claim"}
    world.see(node)
    node.busy = node.record is not None and node.record.doubted == node.name
    record, now = node.record, world.clock(node)
    released = record is not None and record.state == "released"
    promised_until_s = 0.0 if released else node.book.until_s("v")
    verdict = may_claim(
        record,
        Claimant(
            name=node.name,
            host=node.name,
            now_s=now,
            boot_s=node.boot_s * world.rate(node),
            promised_until_s=promised_until_s,
            gone_since_s=node.gone[1],
            lease_gone=record is not None and world.leases.get(record.lease, -1.0) <= world.now_s,
            waited=record is not None and node.unseated == record.token,
            refused=record is not None and node.refused[0] == record.token and bool(node.refused[1]),
        ),
    )
    if isinstance(verdict, AskPeers) and record is not None:
        world.send(node, verdict.names, "refuse?", record.token)
    if isinstance(verdict, Claim):
        node.busy = True
        _request(world, node, "claim", world.revision)


def _record(world: World, node: Node) -> None:
    """The holder writes who its peers are, and that it lives; until it knows that it did, it asks all."""
    node.did |= {"record"}
    record, token = node.record, node.token
    if token is None or record is None or record.token != token or record.state != "held":
        return
    peers = world.new_record(node, token).peers
    if sorted(peers) == sorted(record.peers) and not record.doubted:
        return
    node.unsure = frozenset(peers)
    _request(world, node, "record", tuple(peers), node.revision)


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
    if now < max((node.boot_s * world.rate(node)) + wait_s(record.promise_s), node.book.until_s("v")):
        return
    node.busy = True
    _request(world, node, "doubt", world.revision)


def _unseat(world: World, node: Node) -> None:
    node.did |= {"unseat"}
    record, now = world.record, world.clock(node)
    if record is None or node.doubt[0] != world.revision or now < node.book.until_s("v"):
        return
    if now < window_over_s(node.doubt[1], now, idle_s(world, record.lease), record.window_s):
        return
    _request(world, node, "unseat", record.token, world.revision)


def idle_s(world: World, lease: int) -> float:
    """For how long nobody has renewed it: etcd tells what is left in whole seconds."""
    left_s = int(world.leases.get(lease, world.now_s + TIMING.ttl_s) - world.now_s)
    return float(max(0, TIMING.ttl_s - left_s - 1))


def _crash(world: World, node: Node) -> None:
    world.faults += 1
    node.alive = False


def _boot(world: World, node: Node) -> None:
    if node.boot_s < NEVER_S:
        world.faults += 1
    fresh = Node(node.name, boot_s=world.now_s, address_until_s=node.address_until_s)
    fresh.book = PromiseBook(world.clock(fresh))
    world.nodes[node.name] = fresh


def _cut(world: World, node: Node) -> None:
    world.faults += 1
    node.linked = False


def _heal(world: World, node: Node) -> None:
    node.linked = True


# --- what arrives


def _deliver(world: World, message: tuple[Any, ...], how: str) -> None:
    sender, receiver, sent_s, what, *facts = message
    if receiver == "etcd":
        node = world.nodes[sender]
        result = _apply(world, node, what, facts)
        answer = ("etcd", sender, world.now_s, what, facts[0], facts[1], sent_s, *result)
        if how == "waits":
            world.messages += (answer,)
        elif how == "answered":
            _hear_etcd(world, node, answer)
    elif sender == "etcd":
        _hear_etcd(world, world.nodes[receiver], message)
    else:
        _hear_peer(world, message, answered=how == "answered")


def _apply(world: World, node: Node, what: str, facts: list[Any]) -> tuple[Any, ...]:
    """etcd does it, if what it compares still holds: whether the key is there, whether it was done, the record,
    its revision, and who leads."""
    _, token, *rest = facts
    there = world.keys.get(node.name) == token
    done = there and (what == "confirm" or world.revision == rest[-1])
    if there:
        world.leases[token] = world.now_s + TIMING.ttl_s
    if what == "unseat":
        seated = [name for name, held in world.keys.items() if held == rest[0]]
        done = done and bool(seated)
        for name in seated if done else ():
            del world.keys[name]
    elif done and what != "confirm":
        assert world.record is not None or what == "claim"
        world.revision += 1
        world.record = _written(world, node, what, token, rest)
        world.claims += what == "claim"
    return there, done, world.record, world.revision, world.leader()


def _written(world: World, node: Node, what: str, token: int, facts: list[Any]) -> Holder | None:
    if what == "claim":
        return world.new_record(node, token)
    assert world.record is not None
    if what == "record":
        return msgspec.structs.replace(world.record, peers=list(facts[0]), doubted="")
    return msgspec.structs.replace(world.record, doubted=node.name)


def _hear_etcd(world: World, node: Node, answer: tuple[Any, ...]) -> None:
    _, _, _, what, number, token, sent_s, there, done, record, revision, leader = answer
    if not node.alive or not node.linked or node.boot_s > sent_s:
        return
    if node.request != number or node.token != token:
        return
    now = world.clock(node)
    if not there:
        node.token, node.busy = None, False
        if node.hold is not None and node.hold.token == token and now >= node.hold.promised_until_s:
            node.hold = None
        return
    world.note(node, record, revision)
    node.busy = record is not None and record.doubted == node.name
    if what == "doubt" and done:
        node.doubt = (revision, now)
    elif what == "unseat" and done:
        node.unseated = record.token
    elif node.hold is not None and leader != node.name:
        _release(world, node)
    elif what == "claim" and done and leader == node.name:
        _acquire(world, node, token, sent_s * world.rate(node))
    elif node.hold is not None and _counts(node.hold, record, token):
        node.hold.confirm(sent_s * world.rate(node))
        world.set_address(node)


def _counts(hold: Hold, record: Holder | None, token: int) -> bool:
    """Whether a renewal does: only without a doubt."""
    return (
        record is not None
        and record.token == token == hold.token
        and record.state == "held"
        and not record.doubted
    )


def _acquire(world: World, node: Node, token: int, sent_s: float) -> None:
    before = node.hold
    node.hold = Hold(token, TIMING, sent_s, world.clock(node), sent_s)
    node.hold.confirm(sent_s)
    if before is not None:
        node.hold.window_end_s = max(node.hold.window_end_s, before.window_end_s)
        node.hold.promised_until_s = before.promised_until_s
    world.set_address(node)


def _release(world: World, node: Node) -> None:
    held, node.hold = node.hold, None
    node.address_until_s = -1.0
    world.keys.pop(node.name, None)
    if world.record is not None and held is not None and world.record.token == held.token:
        world.record = msgspec.structs.replace(world.record, state="released")
        world.revision += 1
    node.token = None


def _hear_peer(world: World, message: tuple[Any, ...], *, answered: bool) -> None:
    """A question arrives, and its answer, too, or not."""
    sender, receiver, sent_s, what, *facts = message
    asker, node = world.nodes[sender], world.nodes[receiver]
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
        known = node.record is None or node.record.token == token
        refused = known and not uses and node.book.refuse("v", token, TIMING.promise_s, now) == 0
        if refused and answered:
            before = asker.refused[1] if asker.refused[0] == token else frozenset()
            asker.refused = (token, before | {receiver})


def _hear_promise(world: World, node: Node, peer: str, number: int, refusal: str) -> None:
    asked = node.round
    if asked is not None and asked.number == number and asked.note(peer, refusal):
        node.round = None
        if node.hold is not None and node.hold.token == asked.token:
            node.hold.promise(asked.sent_s)
            world.set_address(node)


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
    "record": _record,
    "crash": _crash,
    "boot": _boot,
    "cut": _cut,
    "heal": _heal,
}


def start(limits: Limits) -> World:
    """Instance a holds, b and c (or a newcomer d that comes later) are its peers."""
    names = ["a", "b"] if limits.newcomer else ["a", "b", "c"]
    world = World({name: Node(name) for name in names})
    for name in names:
        stand(world, world.nodes[name])
    if limits.newcomer:
        world.nodes["d"] = Node("d", alive=False, boot_s=2 * NEVER_S)
    first = world.nodes["a"]
    assert first.token is not None
    world.record = world.new_record(first, first.token)
    for node in world.nodes.values():
        world.see(node)
        node.did = frozenset()
    _acquire(world, first, first.token, 0.0)
    return world
