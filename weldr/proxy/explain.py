"""`python -m weldr.proxy.explain`: what a worker would do with a request, by the worker's own code.

A question comes by standard input and the explanation leaves by standard output. It is a program of its own, as
a worker is: whoever asks need not have the data plane in its process.
"""

from __future__ import annotations

import sys

import msgspec

from weldr.model.explaining import ExplainedRoute, Explanation, Question
from weldr.model.traffic import DEFAULT_SERVICE
from weldr.model.values import Limits
from weldr.proxy.fleet import Fleet
from weldr.proxy.pool import BackendPool
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.request_head import RequestHead
from weldr.proxy.request_reader import RequestReader
from weldr.proxy.routing.conditions import Asked
from weldr.proxy.routing.explanation import explain, in_order
from weldr.proxy.service_table import ServiceTable


def main() -> None:
    """Answer one question."""
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.msgpack.encode(explanation(question)))


def explanation(question: Question) -> Explanation:
    """What a worker would do, decided as `Exchange.begin` does."""
    fleet = Fleet(lambda: None)
    fleet.apply(question.delta)
    fleet.apply_standings(question.standings)
    table = fleet.table
    order = in_order(table.routes)
    try:
        head = _read(question.request, table.limits)
        route = None if table.routes.is_empty else table.routes.find(head, question.client)
    except RequestRefusedError as error:
        return Explanation(status=error.status, reason=error.reason, order=order)
    routes: list[ExplainedRoute] = []
    if not table.routes.is_empty:
        routes = [ExplainedRoute(*found) for found in explain(table.routes, head, question.client)]
    name = DEFAULT_SERVICE
    if route is not None:
        name = route.service
        if route.rules is not None:
            asked = Asked(head, question.client)
            verdict = route.rules.verdict(asked, 0.0, 1.0)
            if verdict is not None:
                return Explanation(status=verdict.status, reason=verdict.reason, routes=routes, order=order)
            name = route.rules.service(asked)
    service = table.services.get(name)
    tried = [] if service is None else _order(service)
    known = [] if name not in fleet.traffic.services else list(fleet.traffic.services[name].backends)
    return Explanation(
        routes=routes,
        order=order,
        service=name,
        backends=tried,
        unused=[backend for backend in known if backend not in tried],
        why_none="" if tried else _why_none(service),
    )


def _read(request: bytes, limits: Limits) -> RequestHead:
    reader = RequestReader(b"", limits)
    reader.feed(request, 0)
    if reader.head is None:
        raise RequestRefusedError(400, "the head of the request is not complete")
    return reader.head


def _order(service: ServiceTable) -> list[str]:
    tried: list[BackendPool] = []
    while (pool := service.balancer.pick(tried)) is not None:
        tried.append(pool)
    return [pool.key[1] for pool in tried]


def _why_none(service: ServiceTable | None) -> str:
    if service is None or not service.has_backends:
        return "the service has no backend"
    return f"every backend of the service {service.why_none}"


if __name__ == "__main__":
    main()
