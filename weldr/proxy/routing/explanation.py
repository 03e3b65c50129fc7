"""Why a route takes a request, and why the others do not. Pure; for people, and so in no hurry."""

from __future__ import annotations

from typing import NamedTuple

from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.compiled import CompiledRoute, PathKind
from weldr.proxy.routing.conditions import Asked
from weldr.proxy.routing.paths import normal_path
from weldr.proxy.routing.table import RouteTable, host_patterns


class Explained(NamedTuple):
    """One route, and the reason that decided about it."""

    name: str
    wins: bool
    reason: str


def explain(table: RouteTable, head: RequestHead, client: str) -> list[Explained]:
    """All routes for this request: the winner first, then those that match too, then the others."""
    winner = table.find(head, client)
    path = normal_path(head.target)
    asked = Asked(head, client)
    patterns = list(host_patterns(head.route_host))
    matching, others = [], []
    for route in sorted(table.routes(), key=lambda route: route.order):
        if route is winner:
            continue
        reason = _mismatch(route, patterns, path, asked)
        if reason is not None:
            others.append(Explained(route.name, False, reason))
        elif winner is not None:
            matching.append(Explained(route.name, False, _why_behind(route, winner, patterns)))
    first = (
        []
        if winner is None
        else [Explained(winner.name, True, "it matches, and none that matches is before it")]
    )
    return [*first, *matching, *others]


def in_order(table: RouteTable) -> list[str]:
    """All routes: of two that take a request, the one that comes first here gets it."""
    return [route.name for route in sorted(table.routes(), key=_rank)]


def _rank(route: CompiledRoute) -> tuple[object, ...]:
    # A host by itself comes before every wildcard, and of those the longer one first.
    wildcard = route.host.startswith(b"*")
    host = (wildcard, -len(route.host) if wildcard else 0, route.host)
    length = -len(route.path) if route.path_kind is PathKind.PREFIX else 0
    return -route.priority, host, route.path_kind, length, -len(route.conditions), route.name


def _mismatch(route: CompiledRoute, patterns: list[bytes], path: bytes, asked: Asked) -> str | None:
    if route.host not in patterns:
        return f"the host is not {route.route.host}"
    if not _takes_path(route, path):
        return f"the path is not {_path_words(route)}"
    for condition in route.conditions:
        if not condition.test(asked):
            return f"it asks for {condition.words}"
    return None


def _takes_path(route: CompiledRoute, path: bytes) -> bool:
    if route.path_kind is PathKind.ANY:
        return True
    if route.path_kind is PathKind.EXACT:
        return path == route.path
    if route.path_kind is PathKind.PREFIX:
        if path == b"*":
            return not route.path
        return path.startswith(route.path) and path[len(route.path) : len(route.path) + 1] in (b"", b"/")
    return route.matches(path)


def _path_words(route: CompiledRoute) -> str:
    value = route.route
    return {
        PathKind.EXACT: f"{value.path_exact}",
        PathKind.PREFIX: f"{value.path} or below it",
        PathKind.GLOB: f"like {value.path_glob}",
        PathKind.REGEX: f"matched by {value.path_regex}",
        PathKind.ANY: "",
    }[route.path_kind]


def _why_behind(route: CompiledRoute, winner: CompiledRoute, patterns: list[bytes]) -> str:
    """The first of the rules, in their order, that puts the winner before it."""
    if route.priority != winner.priority:
        return f"it has priority {route.priority}, and {winner.name} has {winner.priority}"
    if route.host != winner.host:
        return f"{winner.name} names the host more exactly"
    if route.path_kind is not winner.path_kind or len(route.path) != len(winner.path):
        return f"{winner.name} names the path more exactly"
    if len(route.conditions) != len(winner.conditions):
        return f"{winner.name} has more conditions"
    return f"{winner.name} comes first by its name"
