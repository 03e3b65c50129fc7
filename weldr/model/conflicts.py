"""Problems that no key has by itself: a route whose service has no backend, routes that ask for the same,
mirrors that go in a circle. Pure.

None of these harms another key: the requests of such a route get a 503, of two that are the same the one wins
whose name sorts first, and a copy is never copied again. But whoever wrote them meant something else.

What is known of the routes is kept by service and by what they ask for, so that a change is judged by the
routes that it concerns and not by all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from weldr.model.routes import Match, Route
from weldr.model.traffic import Traffic

_Names = frozenset[str]
_NONE: _Names = frozenset()
_Asked = tuple[object, ...]
_Key = TypeVar("_Key")


class Conflict(NamedTuple):
    """What is wrong with a route beside others, and where in it."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Of all routes, by name. `changed` returns those after a change."""

    by_route: Mapping[str, Conflict] = field(default_factory=dict)
    _by_service: Mapping[str, _Names] = field(default_factory=dict)
    """The routes that name a service."""
    _by_asked: Mapping[_Asked, _Names] = field(default_factory=dict)
    """The routes that ask for just the same."""
    _mirrors: Mapping[str, Route] = field(default_factory=dict)

    def changed(
        self, before: Traffic, after: Traffic, routes: Iterable[str], services: Iterable[str]
    ) -> Conflicts:
        """After these routes, and these services' backends, may have changed."""
        known, concerned = self._with(before, after, routes)
        for service in services:
            if _has_backends(before, service) is not _has_backends(after, service):
                concerned |= known._by_service.get(service, _NONE)
        return replace(known, by_route=known._judged(after, concerned)) if concerned else known

    def _with(self, before: Traffic, after: Traffic, routes: Iterable[str]) -> tuple[Conflicts, set[str]]:
        """What is known after a change of these routes, and which ones have to be judged anew for it."""
        if not routes:
            return self, set()
        by_service, by_asked = dict(self._by_service), dict(self._by_asked)
        mirrors = dict(self._mirrors)
        concerned = set(routes)
        for name in routes:
            for route, present in ((before.routes.get(name), False), (after.routes.get(name), True)):
                if route is None:
                    continue
                asked = _asked(route)
                concerned |= by_asked.get(asked, _NONE)
                _note(by_asked, asked, name, present)
                for service in route.service_names:
                    _note(by_service, service, name, present)
                mirrors.pop(name, None)
                if present and route.mirror is not None:
                    mirrors[name] = route
        if mirrors != self._mirrors:
            concerned |= mirrors.keys() | self._mirrors.keys()
        return Conflicts(self.by_route, by_service, by_asked, mirrors), concerned

    def _judged(self, traffic: Traffic, concerned: Iterable[str]) -> Mapping[str, Conflict]:
        by_route = dict(self.by_route)
        circles = _circles(self._mirrors)
        for name in concerned:
            route = traffic.routes.get(name)
            found = None
            if route is not None:
                first = min(self._by_asked[_asked(route)])
                found = _conflict(name, route, first, circles.get(name), traffic)
            if found is not None:
                by_route[name] = found
            else:
                by_route.pop(name, None)
        return by_route


def _conflict(
    name: str, route: Route, first: str, circle: list[str] | None, traffic: Traffic
) -> Conflict | None:
    if first != name:
        return Conflict("$", f"it asks for the same as the route {first}, which gets all of these requests")
    if circle is not None:
        return Conflict("$.mirror.service", f"these mirrors go in a circle: {' → '.join(circle)}")
    for service in _answering(route):
        if not _has_backends(traffic, service):
            place = "$.service" if route.service is not None else "$.services"
            return Conflict(place, f"the service {service} has no backend: its requests get a 503")
    if route.mirror is not None and not _has_backends(traffic, route.mirror.service):
        reason = f"the service {route.mirror.service} has no backend: nothing is mirrored"
        return Conflict("$.mirror.service", reason)
    return None


def _has_backends(traffic: Traffic, service: str) -> bool:
    found = traffic.services.get(service)
    return found is not None and bool(found.backends)


def _note(names: dict[_Key, _Names], key: _Key, name: str, present: bool) -> None:
    held = names.get(key, _NONE)
    held = held | {name} if present else held - {name}
    if held:
        names[key] = held
    else:
        names.pop(key, None)


def _asked(route: Route) -> _Asked:
    """All that a route asks of requests, the same for all ways to write it."""
    path = None if route.path is None else route.path.rstrip("/")
    return (
        route.priority,
        route.host,
        path,
        route.path_exact,
        route.path_glob,
        route.path_regex,
        frozenset(route.methods),
        frozenset((name.lower(), _match(match)) for name, match in route.headers.items()),
        frozenset((name, _match(match)) for name, match in route.query.items()),
        frozenset(route.clients),
    )


def _match(match: str | Match) -> tuple[str | None, str | None, bool | None]:
    return (match, None, None) if isinstance(match, str) else (match.exact, match.regex, match.present)


def _circles(mirrors: Mapping[str, Route]) -> dict[str, list[str]]:
    """For each route whose mirror is part of a circle, the services of that, from and to its own."""
    targets: dict[str, set[str]] = {}
    for route in mirrors.values():
        assert route.mirror is not None
        for service in _answering(route):
            targets.setdefault(service, set()).add(route.mirror.service)
    circles = {}
    for name, route in mirrors.items():
        assert route.mirror is not None
        for service in _answering(route):
            way = _way(targets, route.mirror.service, service)
            if way is not None:
                circles[name] = [service, *way]
                break
    return circles


def _answering(route: Route) -> list[str]:
    if route.service is not None:
        return [route.service]
    return [name for name, weight in route.services.items() if weight]


def _way(targets: Mapping[str, set[str]], start: str, end: str) -> list[str] | None:
    """The shortest way from one service to another along mirrors, both included."""
    ways = {start: [start]}
    reached = [start]
    for service in reached:
        if service == end:
            return ways[service]
        for target in sorted(targets.get(service, ())):
            if target not in ways:
                ways[target] = [*ways[service], target]
                reached.append(target)
    return None
