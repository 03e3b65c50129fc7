"""One route, ready for use. Pure."""

from __future__ import annotations

import re
from enum import IntEnum

from weldr.model.patterns import compiled, glob_regex, written_path
from weldr.model.routes import FieldEdits, Route
from weldr.model.timeouts import UpstreamTimeouts
from weldr.proxy.routing.conditions import Asked, conditions_of
from weldr.proxy.routing.paths import route_path
from weldr.proxy.routing.rules import RouteRules

ANY_HOST = b"*"


class PathKind(IntEnum):
    """How a route asks for a path: the most exact first."""

    EXACT = 0
    PREFIX = 1
    GLOB = 2
    REGEX = 3
    ANY = 4


_BY_PATTERN = (PathKind.GLOB, PathKind.REGEX)


class CompiledRoute:
    """Immutable, but for `number`. What takes effort is done once for each route."""

    __slots__ = (
        "_pattern",
        "beginning",
        "conditions",
        "host",
        "name",
        "number",
        "order",
        "path",
        "path_kind",
        "priority",
        "route",
        "rules",
        "service",
    )

    def __init__(self, name: str, route: Route, before: CompiledRoute | None = None) -> None:
        """`before` is the route of this name until now."""
        self.name = name
        self.number = 0
        """The accounts' affair: 0 while they have none for it."""
        self.route = route
        self.priority = route.priority
        self.host = ANY_HOST if route.host is None else route.host.encode("ascii")
        self.path_kind, self.path = _path(route)
        """What to compare with: the bytes of a path, or of a regular expression."""
        self._pattern = compiled(self.path.decode("utf-8")) if self.path_kind in _BY_PATTERN else None
        self.beginning = _beginning(route)
        """Whole segments that every path begins with which its pattern matches."""
        self.conditions = conditions_of(route)
        self.order = (-route.priority, -len(self.conditions), name)
        """Of routes that are alike in host and path, the one with the lowest wins."""
        self.service = route.service or ""
        """Its target, if that is a single one."""
        self.rules: RouteRules | None = (
            None if _is_plain(route) else RouteRules(route, None if before is None else before.rules)
        )
        """What else it does; nothing for most routes, so that it costs nothing."""

    def matches(self, path: bytes) -> bool:
        """Whether its pattern does."""
        return self._pattern is not None and self._pattern.fullmatch(path) is not None

    def takes(self, asked: Asked) -> bool:
        """Whether its conditions hold."""
        return all(condition.test(asked) for condition in self.conditions)


def _beginning(route: Route) -> bytes:
    if route.path_glob is not None:
        literal = re.split(r"[*?]", route.path_glob, maxsplit=1)[0]
    elif route.path_regex is not None and "|" not in route.path_regex and "(?" not in route.path_regex:
        # Without alternatives and flags it begins with what means itself; what is repeated may be absent.
        literal = _LITERAL.match(route.path_regex)[0]  # type: ignore[index]
    else:
        return b""
    return written_path(literal).rpartition(b"/")[0]


_LITERAL = re.compile(r"(?:[A-Za-z0-9/_~=,;:@&%!'-](?![*+?{]))*+")


def _path(route: Route) -> tuple[PathKind, bytes]:
    if route.path_exact is not None:
        return PathKind.EXACT, route_path(written_path(route.path_exact))
    if route.path is not None:
        return PathKind.PREFIX, route_path(written_path(route.path)).rstrip(b"/")
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
        or route.retries is not None
        or route.mirror
        or route.allow
        or route.deny
        or route.rate_limit
        or route.max_body_bytes is not None
    )
