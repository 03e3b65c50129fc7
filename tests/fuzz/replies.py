"""What a client may be told, given its requests and what backends answered to them."""

from __future__ import annotations

import contextlib

from tests.fuzz.meaning import end_to_end, is_good, is_subsequence
from tests.fuzz.reading import EMPTY_LINES, Reply, Request, Requests, Response, read_reply
from tests.fuzz.sides import ClientSide, Forwarded
from tests.fuzz.transport import End
from tests.fuzz.violation import ViolationError, require


def check_replies(
    client: ClientSide, requests: Requests, groups: list[list[Forwarded]], *, hedged: bool
) -> None:
    """Each response answers the request in its place, by the words of the backend that had it or by weldr's."""
    rest = bytes(client.transport.received)
    # Who has cut the connection itself sees no end.
    ended = client.transport.end is End.FIN and not client.aborted
    for request, group in zip(requests.messages, groups, strict=True):
        if not rest:
            return
        upgrade = b", ".join(request.values(b"upgrade")) if b"upgrade" in request.options() else None
        reply = read_reply(rest, request.method, upgrade or None, ended=ended)
        _check_form(reply, request, client)
        if group:
            _check_one_answered(reply, request, group, hedged=hedged)
        else:
            require(reply.final is None or is_own(reply.final, forwarded=False), "an answer from nowhere")
        if reply.final is not None and is_own(reply.final, forwarded=bool(group)):
            refused = 400 <= reply.final.status < 500 and reply.final.status != 408
            require(not (refused and is_good(request)), f"a good request is refused: {reply.final.body!r}")
        if reply.switched:
            _check_tunnel(client, request, group[-1], reply)
            return
        rest = reply.rest
        if reply.final is None or not reply.final.complete:
            require(client.transport.end is not End.OPEN, "a client waits for the rest of a response")
            return
        if b"close" in reply.final.options():
            if reply.final.status == 408:
                # Maybe before weldr knew the method, and so whether the answer has a body.
                return
            require(not rest, f"more was sent after the last response: {rest!r}")
            return
    _check_last(rest, requests)


def _check_last(rest: bytes, requests: Requests) -> None:
    """What comes when all requests are answered: at most one refusal of what is no request."""
    if not rest:
        return
    broken = requests.rest or (requests.messages and not requests.messages[-1].complete)
    require(bool(broken), f"a response that nobody asked for: {rest!r}")
    head_only = EMPTY_LINES.sub(b"", requests.rest).startswith(b"HEAD ")
    reply = read_reply(rest, b"HEAD" if head_only else b"GET", None, ended=True)
    if head_only and reply.final is not None and reply.final.status == 408 and reply.rest:
        # Too late for a head of which only so much had come that it was not yet a HEAD: this one has a body.
        reply = read_reply(rest, b"GET", None, ended=True)
    if reply.final is None or not reply.final.complete:
        require(False, f"a refusal is no response: {rest!r}")
        return
    require(is_own(reply.final, forwarded=False), f"a backend's answer to no request: {rest!r}")
    require(b"close" in reply.final.options() and not reply.rest, f"a refusal does not end it: {rest!r}")


def is_own(response: Response, *, forwarded: bool) -> bool:
    """Whether weldr made it itself. One that refuses no request, but answers it, has no error to tell."""
    reasons = response.values(b"proxy-status")
    return any(reason.startswith(b"weldr; error=") for reason in reasons) or (
        not forwarded and response.status == 200 and any(reason.startswith(b"weldr; ") for reason in reasons)
    )


def _check_form(reply: Reply, request: Request, client: ClientSide) -> None:
    require(not reply.malformed or _is_cut(reply, client), f"a client got what is no response: {reply!r}")
    final = reply.final
    for response in (*reply.interim, *([final] if final else [])):
        require(response.strict_head, f"a head can be misread: {response.head!r}")
        require(response.version == b"1.1", "a response has another version")
    require(request.version == b"1.1" or not reply.interim, "an HTTP/1.0 client got an interim response")
    if final is None:
        return
    require(final.strict or not final.complete, "a body can be misread")
    framings = len(final.values(b"transfer-encoding")) + len(final.values(b"content-length"))
    require(framings <= 1, "a response has two framings")
    if request.version == b"1.0":
        require(not final.values(b"transfer-encoding"), "an HTTP/1.0 client got a transfer coding")
    require(final.options() <= {b"close", b"keep-alive", b"upgrade"}, f"{final.options()} in Connection")
    for name in (b"keep-alive", b"proxy-connection", b"te", b"proxy-authenticate"):
        require(not final.values(name), f"{name!r} was passed on")


def _is_cut(reply: Reply, client: ClientSide) -> bool:
    """h11 calls a message malformed too when the connection ends within it."""
    return client.transport.end is not End.OPEN and (reply.final is None or not reply.final.complete)


def _check_one_answered(reply: Reply, request: Request, group: list[Forwarded], *, hedged: bool) -> None:
    """The last try is the one that counts; but of a hedged request any may be."""
    for number in range(1, len(group)):
        if hedged:
            with contextlib.suppress(ViolationError):
                _check_answer(reply, request, [*group[number:], *group[:number]])
                return
    _check_answer(reply, request, group)


def _check_answer(reply: Reply, request: Request, group: list[Forwarded]) -> None:
    *failed, meant = [
        read_reply(bytes(each.answered), each.request.method, each.upgrade, ended=each.ended, tolerant=True)
        for each in group
    ]
    forwarded = group[-1]
    if request.version == b"1.1":
        passed = [response.status for response in reply.interim]
        # Those of a try that failed may have been passed on before it did.
        for earlier in failed:
            statuses = [each.status for each in earlier.interim]
            while passed and statuses and passed[0] == statuses[0]:
                del passed[0], statuses[0]
        require(passed == [each.status for each in meant.interim][: len(passed)], "interim responses differ")
    got, answer = reply.final, meant.final
    if got is None or is_own(got, forwarded=True):
        return
    if answer is None:
        require(False, f"a response was made of {bytes(forwarded.answered)!r}")
        return
    what = f"of {bytes(forwarded.answered)!r} the client got {got.status} {got.body!r}"
    require(got.status == answer.status, f"another status: {what}")
    require(end_to_end(got) == end_to_end(answer, answer.options()), f"other fields: {what}")
    if got.complete:
        require(answer.complete, f"a response that is not complete looks complete: {what}")
        require(got.body == answer.body, f"another body: {what}")
        require(is_subsequence(got.trailers, answer.trailers), f"other trailers: {what}")
    else:
        require(answer.body.startswith(got.body), f"another body: {what}")


def _check_tunnel(client: ClientSide, request: Request, forwarded: Forwarded, reply: Reply) -> None:
    """After a 101 each side gets what the other sends, from the very byte on."""
    meant = read_reply(bytes(forwarded.answered), b"GET", forwarded.upgrade, ended=False, tolerant=True)
    require(meant.switched, "a change of the protocol that the backend did not make")
    require(meant.rest.startswith(reply.rest), "a tunnel changed what the backend sent")
    sent = bytes(client.sent)
    after_head = sent.find(request.head) + len(request.head)
    tunnelled = bytes(forwarded.link.tunnelled)
    require(tunnelled in sent[after_head:], "a tunnel changed what the client sent")
