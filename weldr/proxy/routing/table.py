"""All routes, found by host. Pure.

Of the routes that take a request, the one wins that has the highest priority; then an exact host before `*.`
and before none, a longer `*.` before a shorter one; then an exact path before the longest prefix before a glob
before an expression before none; then more conditions; then the name that sorts first. So it is the same in
every worker and on every instance, whatever the order in which routes came.

A lookup asks for each pattern that the host can match: its cost depends on the depth of the host and not on the
number of routes. A change of one route compiles that one, and sorts those with the same host and path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from weldr.model.routes import Route
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.compiled import ANY_HOST, CompiledRoute
from weldr.proxy.routing.host_routes import HostRoutes
from weldr.proxy.routing.paths import normal_path

_NONE = HostRoutes()


class RouteTable:
    """Immutable. `changed` returns the next one."""

    __slots__ = ("_any_host", "_by_host", "_by_name", "_has_wildcards", "_top_priority", "is_empty")

    def __init__(
        self,
        by_name: Mapping[str, CompiledRoute] | None = None,
        by_host: Mapping[bytes, HostRoutes] | None = None,
    ) -> None:
        self._by_name = by_name or {}
        self._by_host = by_host or {}
        self.is_empty = not self._by_host
        self._any_host = self._by_host.get(ANY_HOST)
        self._has_wildcards = any(host.startswith(b"*.") for host in self._by_host)
        self._top_priority = max((routes.top_priority for routes in self._by_host.values()), default=0)

    def changed(self, removed: Iterable[str], put: Mapping[str, Route]) -> RouteTable:
        """The table without the routes of these names, and with those put, also in place of others."""
        by_name = dict(self._by_name)
        gone: dict[bytes, list[CompiledRoute]] = {}
        come: dict[bytes, list[CompiledRoute]] = {}
        for name in (*removed, *put):
            held = by_name.pop(name, None)
            if held is not None:
                gone.setdefault(held.host, []).append(held)
        for name, route in put.items():
            compiled = by_name[name] = CompiledRoute(name, route, self._by_name.get(name))
            come.setdefault(compiled.host, []).append(compiled)
        by_host = dict(self._by_host)
        for host in gone.keys() | come.keys():
            routes = by_host.get(host, _NONE).changed(gone.get(host, ()), come.get(host, ()))
            if routes:
                by_host[host] = routes
            else:
                by_host.pop(host, None)
        return RouteTable(by_name, by_host)

    def routes(self) -> Iterable[CompiledRoute]:
        """All of them."""
        return self._by_name.values()

    def find(self, head: RequestHead, client: str) -> CompiledRoute | None:
        """The route that takes a request of a client with this address.

        Raises `RequestRefusedError` for a path that one could understand in two ways.
        """
        by_host, host = self._by_host, head.route_host
        path = normal_path(head.target)
        best: CompiledRoute | None = None
        routes = by_host.get(host)
        if routes is not None:
            best = routes.best(path, head, client, None)
            if best is not None and best.priority >= self._top_priority:
                return best
        if self._has_wildcards:
            dot = host.find(b".")
            while dot >= 0:
                routes = by_host.get(b"*" + host[dot:])
                if routes is not None and (best is None or routes.top_priority > best.priority):
                    best = routes.best(path, head, client, best)
                dot = host.find(b".", dot + 1)
        routes = self._any_host
        if routes is not None and (best is None or routes.top_priority > best.priority):
            best = routes.best(path, head, client, best)
        return best


def host_patterns(host: bytes) -> Iterator[bytes]:
    """The host patterns that a host matches, the most exact first."""
    yield host
    dot = host.find(b".")
    while dot >= 0:
        yield b"*" + host[dot:]
        dot = host.find(b".", dot + 1)
    yield ANY_HOST
