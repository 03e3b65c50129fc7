"""What has to hold after a scenario, whatever was sent."""

from __future__ import annotations

from tests.fuzz.grammar import is_authority
from tests.fuzz.meaning import destination, end_to_end, is_subsequence
from tests.fuzz.reading import Fields, Request, Requests, read_reply, read_requests
from tests.fuzz.replies import check_replies
from tests.fuzz.sides import Forwarded, Link
from tests.fuzz.violation import ViolationError, require
from tests.fuzz.world import World

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
_RETRIED = (502, 503, 504)


def check(world: World) -> None:
    """All of it."""
    _check_rest(world)
    for link in world.links:
        _check_link(link)
    forwarded_once = 0
    for client in world.clients:
        requests = read_requests(bytes(client.sent))
        mine = [each for each in world.forwarded if each.client == client.number]
        groups = _assigned(requests, mine, hedged=world.policy.hedging is not None)
        forwarded_once += sum(1 for group in groups if group)
        check_replies(client, requests, groups, hedged=world.policy.hedging is not None)
    require(
        forwarded_once <= world.context.counters.requests,
        f"{forwarded_once} requests were forwarded and {world.context.counters.requests} counted",
    )


def _check_rest(world: World) -> None:
    """Nothing is left when everybody is gone."""
    context = world.context
    require(not world.errors, "errors:\n" + "\n".join(world.errors))
    require(context.counters.faults == 0, "an exception was counted")
    require(all(transport.lost for transport in world.transports), "a connection was never closed")
    require(context.counters.in_flight == 0, f"{context.counters.in_flight} requests are in flight for ever")
    require(not len(context.clients), "a client's connection was not forgotten")
    require(not context.deadlines._watched, "a deadline was left")
    fleet = context.fleet
    for guard in fleet._guards.values():
        require(not guard.pending.waiting, "a request waits for ever")
        require(guard.pending.in_flight == 0, "a place among the requests in flight was not given back")
    for pool in (*fleet._pools.values(), *fleet._leaving.values()):
        require(not pool._kept, "a closed connection was kept")
        require(pool.in_flight == 0, f"a backend has {pool.in_flight} requests in flight for ever")


def _check_link(link: Link) -> None:
    """A backend's stream: good requests, one after the other, on a connection that was fit for each."""
    require(link.malformed is None, f"a backend got what is no request: {link.malformed}")
    require(not (link.unasked and link.requests), "a request was sent on a connection with unasked bytes")
    requests = read_requests(bytes(link.transport.received[: link.http_bytes]))
    for index, request in enumerate(requests.messages):
        _check_forwarded_form(request)
        if index:
            _check_reuse(link.requests[index - 1])
    if not link.tunnelled:
        require(not requests.rest.strip() or _cut_off(link, requests), "a backend got half a head")


def _cut_off(link: Link, requests: Requests) -> bool:
    return link.transport.lost and len(link.requests) > len(requests.messages)


def _check_forwarded_form(request: Request) -> None:
    require(request.strict_head, f"a forwarded head can be misread: {request.head!r}")
    require(request.strict or not request.complete, "a forwarded body can be misread")
    require(request.version == b"1.1", "a forwarded request has another version")
    require(len(request.values(b"host")) == 1, "a forwarded request has not one Host")
    require(is_authority(request.values(b"host")[0]), "a forwarded Host is malformed")
    require(request.target == b"*" or request.target.startswith(b"/"), "a target has no origin form")
    names = [name for name, _ in request.fields]
    require(len(request.values(b"x-forwarded-for")) == 1, "not one X-Forwarded-For")
    for name in (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"http2-settings"):
        require(name not in names, f"{name!r} was forwarded")
    spelled = [name.replace(b"_", b"-") for name in names if b"_" in name]
    for name in (b"x-forwarded-for", b"x-forwarded-proto", b"content-length", b"transfer-encoding"):
        require(name not in spelled, f"what CGI takes for {name!r} was forwarded")
    options = request.options()
    require(options <= {b"upgrade", b"te"}, f"forwarded Connection options: {options}")
    require((b"upgrade" in options) == (b"upgrade" in names), "Upgrade without Connection, or without itself")
    require(set(request.values(b"te")) <= {b"trailers"}, "a TE of the client was forwarded")
    require((b"te" in options) == (b"te" in names), "TE without Connection, or without itself")
    require(request.values(b"via")[-1].endswith(b" weldr"), "the last Via is not weldr's")


def _check_reuse(before: Forwarded) -> None:
    """Whether a connection could carry another request after that one."""
    require(before.end is not None, "a connection was used again after half a request")
    reply = read_reply(
        bytes(before.answered), before.request.method, before.upgrade, ended=before.ended, tolerant=True
    )
    final = reply.final
    if final is None or reply.malformed or reply.switched or not final.complete:
        raise ViolationError(f"a connection was used again after {bytes(before.answered)!r}")
    require(not reply.rest.strip(b"\r\n"), f"a connection was used again with excess bytes: {reply.rest!r}")
    require(b"close" not in final.options(), "a connection was used again that the backend wanted to close")
    require(not before.ended, "a connection was used again that the backend had shut")


def _assigned(requests: Requests, forwarded: list[Forwarded], *, hedged: bool) -> list[list[Forwarded]]:
    """For each request of a client how it was forwarded: not at all, once, or again after a lost connection."""
    groups: list[list[Forwarded]] = [[] for _ in requests.messages]
    position = -1
    for each in forwarded:
        if position >= 0 and groups[position] and _is_repeat(groups[position], each, hedged=hedged):
            groups[position].append(each)
            continue
        position += 1
        while position < len(groups) and not _same_head(requests.messages[position], each):
            position += 1
        if position == len(groups):
            raise ViolationError(
                f"a request was forwarded that the client did not send: {each.request!r}\n"
                f"of {[request.head for request in requests.messages]}, then {requests.rest!r}"
            )
        _check_body(requests.messages[position], each)
        groups[position].append(each)
    return groups


def _is_repeat(before: list[Forwarded], again: Forwarded, *, hedged: bool) -> bool:
    """Whether it may be the same request: once more, as the backend had closed a kept connection, or to another
    backend, as one had failed or, if they are `hedged`, was slow.
    """
    first = before[0]
    harmless = first.request.method in _IDEMPOTENT and not first.body
    # With its id, which tells it from the client's next request for the same.
    same = first.request.target == again.request.target and _fields(first) == _fields(again)
    return harmless and same and (_is_aged(before, again) or _is_elsewhere(before, again, hedged=hedged))


def _is_aged(before: list[Forwarded], again: Forwarded) -> bool:
    lost = before[-1]
    return (
        not any(_is_aged(before[:index], before[index]) for index in range(1, len(before)))
        and not lost.answered
        and lost.link.requests[0] is not lost
        and lost.link.transport.lost
        and again.link.requests[0] is again
    )


def _is_elsewhere(before: list[Forwarded], again: Forwarded, *, hedged: bool) -> bool:
    failed = before[-1]
    reply = read_reply(
        bytes(failed.answered), failed.request.method, failed.upgrade, ended=failed.ended, tolerant=True
    )
    has_failed = failed.link.transport.lost if reply.final is None else reply.final.status in _RETRIED
    # A backend that closed a kept connection has not been tried.
    aged = [_is_aged(before[:index], before[index]) for index in range(1, len(before))] + [False]
    tried = [each.link.backend for each, is_aged in zip(before, aged, strict=True) if not is_aged]
    return (has_failed or hedged) and again.link.backend not in tried


def _fields(forwarded: Forwarded) -> Fields:
    return list(forwarded.request.headers)


def _same_head(request: Request, forwarded: Forwarded) -> bool:
    """Whether what was forwarded means what the client sent, and the client's can mean nothing else."""
    event = forwarded.request
    if not request.strict_head or request.method != event.method:
        return False
    meant = destination(request)
    if meant is None:
        return False
    host, target = meant
    sent_host = forwarded.values(b"host")[0]
    if target != event.target or (host != sent_host and not (host == b"" and request.version == b"1.0")):
        return False
    return end_to_end(request, request.options()) == end_to_end(forwarded.head)


def _check_body(request: Request, forwarded: Forwarded) -> None:
    body = bytes(forwarded.body)
    if forwarded.end is None:
        require(request.body.startswith(body), f"a body was forwarded that is not the client's: {body!r}")
        return
    require(request.complete and request.strict, f"a broken request was completed: {request!r}")
    require(request.body == body, f"a body was changed: {request.body!r} to {body!r}")
    require(is_subsequence(forwarded.trailers, request.trailers), "a trailer that the client did not send")
