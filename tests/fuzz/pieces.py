"""Where a stream of requests is cut by the network makes no difference."""

from __future__ import annotations

from tests.fuzz.checks import check
from tests.fuzz.meaning import end_to_end
from tests.fuzz.reading import Fields, read_reply, read_requests
from tests.fuzz.scenario import Client, Scenario
from tests.fuzz.violation import require
from tests.fuzz.world import World

_MOST_BYTEWISE = 1500


def check_pieces(client: Client) -> None:
    """Backends and client get the same whether it comes whole, in pieces or byte by byte."""
    whole = _seen(Client(client.stream))
    ways = [client]
    if len(client.stream) <= _MOST_BYTEWISE:
        ways.append(Client(client.stream, b"\x01" * len(client.stream)))
    for way in ways:
        cut = _seen(way)
        require(whole == cut, f"cut by {way.cuts!r} it is {cut}, and whole {whole}")


def _seen(plan: Client) -> tuple[list[tuple[bytes, bytes, bytes, Fields]], list[int]]:
    """The complete requests that backends got, and the statuses that the client did."""
    world = World(Scenario(clients=(plan,))).play()
    check(world)
    (client,) = world.clients
    forwarded = []
    for each in world.forwarded:
        if each.end is not None:
            forwarded.append((each.head.method, each.head.target, bytes(each.body), end_to_end(each.head)))
    statuses = []
    rest = bytes(client.transport.received)
    methods = [request.method for request in read_requests(bytes(client.sent)).messages]
    while rest:
        method = methods.pop(0) if methods else b"GET"
        reply = read_reply(rest, method, None, ended=True)
        if reply.final is None or not reply.final.complete:
            break
        statuses.append(reply.final.status)
        rest = reply.rest
    return forwarded, statuses
