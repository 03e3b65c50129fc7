"""What a message does where it arrives in the world: at etcd, at whoever asked etcd, or at another instance."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.unit.control.vip_world import TIMING, Node, World
from weldr.control.vip.hold import Hold
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, is_same_instance


def deliver(world: World, message: tuple[Any, ...], how: str) -> None:
    """Have it arrive, and be answered or not, or its answer wait, as `how` says."""
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
    if what in ("unseat", "vacate"):
        seated = [name for name, held in world.keys.items() if held == rest[0]]
        done = done and bool(seated)
        for name in seated if done else ():
            del world.keys[name]
        if done and what == "vacate" and world.record is not None:
            world.record = msgspec.structs.replace(world.record, state="released", doubted="")
            world.revision += 1
    elif what == "withdraw":
        if there:
            del world.keys[node.name]
            if rest[-1] == world.revision and world.record is not None:
                world.record = msgspec.structs.replace(world.record, state="released")
                world.revision += 1
    elif done and what != "confirm":
        assert world.record is not None or what == "claim"
        world.revision += 1
        world.record = _written(world, node, what, token, rest)
        world.claims += what == "claim"
    return there, done, world.record, world.revision, world.leader()


def _written(world: World, node: Node, what: str, token: int, facts: list[Any]) -> Holder | None:
    if what == "claim":
        return msgspec.structs.replace(world.new_record(node, token), **_peers(node, facts))
    assert world.record is not None
    if what == "record":
        return msgspec.structs.replace(world.record, doubted="", **_peers(node, facts))
    return msgspec.structs.replace(world.record, doubted=node.called)


def _peers(node: Node, facts: list[Any]) -> dict[str, Any]:
    peers = dict(facts[0])
    return {"peers": sorted(peers), "machines": {**peers, node.called: node.machine}}


def _hear_etcd(world: World, node: Node, answer: tuple[Any, ...]) -> None:
    _, _, _, what, number, token, sent_s, there, done, record, revision, leader = answer
    if not node.alive or not node.linked or node.boot_s > sent_s:
        return
    if node.request != number or node.token != token:
        return
    now = world.clock(node)
    if not there or what == "withdraw":
        node.token, node.busy = None, False
        if node.hold is not None and node.hold.token == token and now >= node.hold.promised_until_s:
            node.hold = None
        return
    world.note(node, record, revision)
    node.busy = record is not None and record.doubted == node.called
    if what == "doubt" and done:
        node.doubt = (revision, now, now + wait_s(record.window_s))
    elif what in ("unseat", "vacate") and done:
        node.unseated = record.token
    elif node.hold is not None and leader != node.name:
        _release(world, node)
    elif what == "claim" and done and leader == node.name:
        acquire(world, node, token, sent_s * world.rate(node))
    elif node.hold is not None and counts(node.hold, record, token):
        node.hold.confirm(sent_s * world.rate(node))
        node.hold.confirmed_s = sent_s * world.rate(node)
        world.set_address(node)


def counts(hold: Hold, record: Holder | None, token: int) -> bool:
    """Whether a renewal does: only without a doubt."""
    return (
        record is not None
        and record.token == token == hold.token
        and record.state == "held"
        and not record.doubted
    )


def acquire(world: World, node: Node, token: int, sent_s: float) -> None:
    before = node.hold
    node.hold = Hold(token, TIMING, sent_s, world.clock(node), sent_s)
    node.hold.confirm(sent_s)
    if before is not None:
        node.hold.window_end_s = max(node.hold.window_end_s, before.window_end_s)
        node.hold.promised_until_s = before.promised_until_s
        node.hold.asked_too_few_s = before.asked_too_few_s
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
    if not node.alive or node.boot_s > sent_s or (asker.called, asker.name) not in node.knows:
        return
    now = world.clock(node)
    answered = answered and asker.alive and asker.boot_s <= sent_s
    answered = answered and (node.called, node.name) in asker.knows
    if what == "promise?":
        number, token = facts
        refusal: str | None = "another instance has its name"
        if not world.name_is_taken(node):
            refusal = node.book.promise(
                "v", token, TIMING.promise_s, now, busy=world.busy(node), claimed=node.claimed
            )
        if answered:
            _hear_promise(world, asker, node.called, number, refusal or "")
    else:
        (token,) = facts
        # Who has taken its address down knows whether it is gone.
        left_behind = world.now_s < node.address_until_s
        uses = node.token == token or left_behind or (node.hold is not None and node.hold.token == token)
        known = node.record is not None and node.record.token == token and not world.name_is_taken(node)
        is_named = known and node.record is not None
        is_named = is_named and is_same_instance(node.record, node.called, node.machine)
        refused = is_named and not uses and node.book.refuse("v", token, TIMING.promise_s, now) == 0
        if refused and answered:
            before = asker.refused[1] if asker.refused[0] == token else frozenset()
            asker.refused = (token, before | {node.called})


def _hear_promise(world: World, node: Node, peer: str, number: int, refusal: str) -> None:
    asked = node.round
    if asked is not None and asked.number == number and asked.note(peer, refusal):
        node.round = None
        if node.hold is not None and node.hold.token == asked.token:
            node.hold.promise(asked.sent_s)
            world.set_address(node)
