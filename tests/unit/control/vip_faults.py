"""What befalls instances, machines and etcd in the world."""

from __future__ import annotations

from tests.unit.control.vip_world import NEVER_S, Node, World
from weldr.control.vip.promises import PromiseBook


def crash(world: World, node: Node) -> None:
    world.faults += 1
    node.alive = False


def power(world: World, node: Node) -> None:
    """Its machine loses power, or is started anew; it comes back by `boot`."""
    crash(world, node)
    node.address_until_s = -1.0
    node.started += 1


def boot(world: World, node: Node) -> None:
    if node.boot_s < NEVER_S:
        world.faults += 1
    fresh = Node(
        node.name,
        node.called,
        node.machine,
        node.kernel,
        node.started,
        epoch=world.epoch,
        began_revision=world.revision,
        boot_s=world.now_s,
        address_until_s=node.address_until_s,
    )
    fresh.book = PromiseBook(world.clock(fresh))
    world.nodes[node.name] = fresh
    world.arrive(fresh)
    world.see(fresh)


def give_up(world: World, node: Node) -> None:
    """As when it is moved by hand: the address goes at once, and etcd is told when it is told."""
    world.faults += 1
    assert node.hold is not None
    owes = node.record is not None and node.record.token == node.hold.token and node.record.state == "held"
    node.hold, node.address_until_s = None, -1.0
    world.request(node, "withdraw", node.revision if owes else 0)


def upgrade(world: World, node: Node) -> None:
    """Another manager goes on in its place, with what `VipsState` has."""
    world.faults += 1
    world.nodes[node.name] = after = Node(
        node.name, node.called, node.machine, node.kernel, node.started, boot_s=node.boot_s, book=node.book
    )
    after.knows, after.epoch, after.restored_s = node.knows, node.epoch, node.restored_s
    after.claimed, after.began_revision = node.claimed, world.revision
    after.linked, after.listed = node.linked, node.listed
    after.token, after.busy, after.did = node.token, node.busy, node.did
    after.hold, after.address_until_s = node.hold, node.address_until_s
    after.unsure, after.revision = handed_unsure(node), node.revision
    # What is answered or promised now goes to the old one.
    after.request = node.request + 1
    after.round = None


def handed_unsure(node: Node) -> frozenset[tuple[str, str]]:
    """Whom its record may name."""
    record = node.record
    read = ((name, record.machines.get(name, "")) for name in record.peers) if record is not None else ()
    return node.unsure.union(read)


def cut(world: World, node: Node) -> None:
    world.faults += 1
    node.linked = False


def heal(world: World, node: Node) -> None:
    node.linked = True
    world.arrive(node)


def depart(world: World, node: Node) -> None:
    """The lease of its key in etcd ends; it may be cut off and well."""
    node.listed = False


def lose(world: World) -> None:
    """etcd is lost, with all that it was asked."""
    world.faults += 1
    world.away_s = world.now_s
    world.messages = tuple(message for message in world.messages if "etcd" not in message[:2])


def restore(world: World) -> None:
    """It is restored from a copy of before anybody was there, and counts from an earlier number."""
    world.away_s = None
    world.epoch += 1
    world.keys, world.leases, world.record = {}, {}, None
    world.revision += 1
    world.next_token = 1
    for node in world.nodes.values():
        node.listed = False
    for node in world.nodes.values():
        if node.alive and node.linked:
            world.arrive(node)
