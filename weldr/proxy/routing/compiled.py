"""One route, ready for use. Pure."""

from __future__ import annotations

from enum import IntEnum

from weldr.model.patterns import glob_regex, written_path
from weldr.model.routes import FieldEdits, Route
from weldr.model.timeouts import UpstreamTimeouts
from weldr.proxy.routing.conditions import Asked, conditions_of
from weldr.proxy.routing.rules import RouteRules

ANY_HOST = b"*"


class PathKind(IntEnum):
    """How a route asks for a path: the most exact first."""

    EXACT = 0
    PREFIX = 1
    GLOB = 2
    REGEX = 3
    ANY = 4


class CompiledRoute:
    """Immutable. What takes effort is done once for each route, and not again when others change."""

    __slots__ = (
        "conditions",
        "host",
        "name",
        "order",
        "path",
        "path_kind",
        "priority",
        "route",
        "rules",
        "service",
    )

    def __init__(self, name: str, route: Route) -> None:
        self.name = name
        self.route = route
        self.priority = route.priority
        self.host = ANY_HOST if route.host is None else route.host.encode("ascii")
        self.path_kind, self.path = _path(route)
        """What to compare with: the bytes of a path, or of a regular expression."""
        self.conditions = conditions_of(route)
        self.order = (-route.priority, -len(self.conditions), name)
        """Of routes that are alike in host and path, the one with the lowest wins."""
        self.service = route.service or ""
        """Its target, if that is a single one."""
        self.rules = None if _is_plain(route) else RouteRules(route)
        """What else it does; nothing for most routes, so that it costs nothing."""

    def takes(self, asked: Asked) -> bool:
        """Whether its conditions hold."""
        return all(condition.test(asked) for condition in self.conditions)


def _path(route: Route) -> tuple[PathKind, bytes]:
    if route.path_exact is not None:
        return PathKind.EXACT, written_path(route.path_exact)
    if route.path is not None:
        return PathKind.PREFIX, written_path(route.path.rstrip("/"))
    if route.path_glob is not None:
        return PathKind.GLOB, glob_regex(route.path_glob).encode("ascii")
    if route.path_regex is not None:
        return PathKind.REGEX, route.path_regex.encode("utf-8")
    return PathKind.ANY, b""


def _is_plain(route: Route) -> bool:
    return bool(route.service) and not (
        route.strip_prefix
        or route.add_prefix
        or route.request_headers != FieldEdits()
        or route.response_headers != FieldEdits()
        or route.timeouts != UpstreamTimeouts()
        or route.mirror
        or route.allow
        or route.deny
        or route.rate_limit
        or route.max_body_bytes is not None
    )
