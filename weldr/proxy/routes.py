"""Which service a request goes to: routes compiled for lookup by host and path. Pure.

Of the routes that match, the one wins that has the highest priority; then an exact host before `*.` and before
none, a longer `*.` before a shorter one; then the longest path; then the name that sorts first.

Routes are kept by host pattern and, there, by path. A lookup asks for each pattern that the host can match and,
in it, for each prefix of the path that is no deeper than any of its routes: so its cost depends on the depth of
host and path and not on the number of routes, and a change of one route compiles anew only those of its host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

from weldr.model.values import Route

_ANY_HOST = b"*"


class _Compiled(NamedTuple):
    priority: int
    service: str


class _HostRoutes:
    """The routes of one host pattern: for each path, the best of those that have exactly this path."""

    __slots__ = ("_by_path", "_depth", "routes", "top_priority")

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self.routes = routes
        self._by_path: dict[bytes, _Compiled] = {}
        for _, route in sorted(routes.items(), key=_order):
            self._by_path.setdefault(_path_key(route), _Compiled(route.priority, route.service))
        self._depth = max(path.count(b"/") for path in self._by_path)
        self.top_priority = max(route.priority for route in routes.values())

    def matches(self, path: bytes) -> Iterator[_Compiled]:
        """Every route that takes this path, the longest first."""
        by_path = self._by_path
        if path == b"*":
            path = b""
        segments = path.split(b"/", self._depth + 1)
        for depth in range(min(len(segments), self._depth + 1), 0, -1):
            found = by_path.get(b"/".join(segments[:depth]))
            if found is not None:
                yield found


class RouteTable:
    """All routes. Immutable: `changed` returns the next one."""

    __slots__ = ("_by_host", "_top_priority")

    def __init__(self, by_host: Mapping[bytes, _HostRoutes] | None = None) -> None:
        self._by_host = by_host or {}
        self._top_priority = max((routes.top_priority for routes in self._by_host.values()), default=0)

    def changed(self, before: Iterable[tuple[str, Route]], after: Iterable[tuple[str, Route]]) -> RouteTable:
        """The table without the routes `before` and with those `after`."""
        touched: dict[bytes, dict[str, Route]] = {}
        for name, route in before:
            self._touch(touched, route).pop(name, None)
        for name, route in after:
            self._touch(touched, route)[name] = route
        by_host = dict(self._by_host)
        for host, routes in touched.items():
            if routes:
                by_host[host] = _HostRoutes(routes)
            else:
                by_host.pop(host, None)
        return RouteTable(by_host)

    def _touch(self, touched: dict[bytes, dict[str, Route]], route: Route) -> dict[str, Route]:
        host = _host_key(route)
        if host not in touched:
            held = self._by_host.get(host)
            touched[host] = dict(held.routes) if held else {}
        return touched[host]

    def find(self, host: bytes, target: bytes) -> str | None:
        """The service for a request; `host` in lower case, without port and trailing dot."""
        by_host = self._by_host
        if not by_host:
            return None
        path = target.partition(b"?")[0]
        best: _Compiled | None = None
        for pattern in _patterns(host):
            routes = by_host.get(pattern)
            if routes is None:
                continue
            for route in routes.matches(path):
                if best is None or route.priority > best.priority:
                    best = route
                    if route.priority >= self._top_priority:
                        return route.service
        return best.service if best else None


def _patterns(host: bytes) -> Iterator[bytes]:
    """The host patterns that a host matches, the most exact first."""
    yield host
    dot = host.find(b".")
    while dot >= 0:
        yield b"*" + host[dot:]
        dot = host.find(b".", dot + 1)
    yield _ANY_HOST


def _order(item: tuple[str, Route]) -> tuple[int, bool, str]:
    """Of routes with the same host and path, the best first; `/` is longer than no path."""
    name, route = item
    return -route.priority, route.path is None, name


def _host_key(route: Route) -> bytes:
    return _ANY_HOST if route.host is None else route.host.removesuffix(".").encode("ascii")


def _path_key(route: Route) -> bytes:
    """The path as requests write it: percent-encoded; empty for one that takes everything."""
    if route.path is None:
        return b""
    return quote(route.path.rstrip("/"), safe="/%:@!$&'()*+,;=-._~[]|^`{}\"<>\\?#").encode("ascii")
