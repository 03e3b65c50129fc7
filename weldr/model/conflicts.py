"""Problems that no key has by itself and that harm no other: a route whose service has no backend. Pure.

What is known of the routes is kept by service, so that a change is judged by the routes that it concerns and
not by all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from weldr.model.name_index import NameIndex
from weldr.model.route_claims import Conflict, answering
from weldr.model.routes import Route
from weldr.model.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Of all routes in force, by name. `changed` returns those after a change."""

    by_route: Mapping[str, Conflict] = field(default_factory=dict)
    _by_service: NameIndex[str] = field(default_factory=NameIndex)
    """The routes that name a service."""

    def changed(
        self, before: Traffic, after: Traffic, routes: Collection[str], services: Iterable[str]
    ) -> Conflicts:
        """After these routes, and these services' backends, may have changed."""
        known = self._with(before, after, routes)
        concerned = set(routes)
        for service in services:
            if _has_backends(before, service) is not _has_backends(after, service):
                concerned |= known._by_service.names(service)
        return replace(known, by_route=known._judged(after, concerned)) if concerned else known

    def _with(self, before: Traffic, after: Traffic, routes: Collection[str]) -> Conflicts:
        """What is known after a change of these routes."""
        if not routes:
            return self
        by_service = self._by_service.copy()
        for name in routes:
            if (route := before.routes.get(name)) is not None:
                for service in route.service_names:
                    by_service.discard(service, name)
            if (route := after.routes.get(name)) is not None:
                for service in route.service_names:
                    by_service.add(service, name)
        return Conflicts(self.by_route, by_service)

    def _judged(self, traffic: Traffic, concerned: Iterable[str]) -> Mapping[str, Conflict]:
        by_route = dict(self.by_route)
        for name in concerned:
            route = traffic.routes.get(name)
            found = _conflict(route, traffic) if route is not None else None
            if found is not None:
                by_route[name] = found
            else:
                by_route.pop(name, None)
        return by_route


def _conflict(route: Route, traffic: Traffic) -> Conflict | None:
    for service in answering(route):
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
