"""The routes of one host pattern, found by path. Pure.

Routes that are alike in their path stand together, the best first. Which of these groups match a path is found
by looking up the path itself and each of its prefixes, no deeper than any route goes, and by one run of RE2
over all globs and one over all expressions: the cost depends on the path's depth, not on the number of routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from weldr.model.patterns import options
from weldr.proxy.routing.compiled import CompiledRoute, PathKind
from weldr.proxy.routing.conditions import Asked

if TYPE_CHECKING:
    import re2

Group = tuple[CompiledRoute, ...]
_GroupKey = tuple[PathKind, bytes]
_LOWEST = -(1 << 62)
_Key = TypeVar("_Key")
_ANY_PATH = (PathKind.ANY, b"")
# All globs are one group, and so are all expressions: more than one may match, and then their order decides.
_PATTERN_KINDS = (PathKind.GLOB, PathKind.REGEX)


class HostRoutes:
    """Immutable: `changed` returns the next one."""

    __slots__ = ("_any", "_depth", "_exact", "_groups", "_patterns", "_prefixes", "top_priority")

    def __init__(self) -> None:
        self._groups: Mapping[_GroupKey, Group] = {}
        self._exact: Mapping[bytes, Group] = {}
        self._prefixes: Mapping[bytes, Group] = {}
        self._patterns: list[_PatternGroup] = []
        self._any: Group = ()
        self._depth = -1
        """No prefix has more slashes."""
        self.top_priority = _LOWEST
        """No route has a higher priority."""

    def changed(self, removed: Iterable[CompiledRoute], added: Iterable[CompiledRoute]) -> HostRoutes:
        """Without those, with these."""
        touched: dict[_GroupKey, dict[str, CompiledRoute]] = {}
        for route in removed:
            self._members(touched, route).pop(route.name, None)
        for route in added:
            self._members(touched, route)[route.name] = route
        return self._with(
            {key: tuple(sorted(members.values(), key=_order)) for key, members in touched.items()}
        )

    def _members(
        self, touched: dict[_GroupKey, dict[str, CompiledRoute]], route: CompiledRoute
    ) -> dict[str, CompiledRoute]:
        key = (route.path_kind, b"" if route.path_kind in _PATTERN_KINDS else route.path)
        if key not in touched:
            touched[key] = {each.name: each for each in self._groups.get(key, ())}
        return touched[key]

    def _with(self, changed: Mapping[_GroupKey, Group]) -> HostRoutes:
        """With these groups in place of those of the same key. Whatever has not changed is shared."""
        after = HostRoutes()
        after._groups = _replaced(self._groups, changed)
        paths: dict[PathKind, dict[bytes, Group]] = {kind: {} for kind in PathKind}
        for (kind, path), group in changed.items():
            paths[kind][path] = group
        after._exact = _replaced(self._exact, paths[PathKind.EXACT])
        after._prefixes = _replaced(self._prefixes, paths[PathKind.PREFIX])
        after._any = after._groups.get(_ANY_PATH, ())
        after._patterns = self._patterns
        if paths[PathKind.GLOB] or paths[PathKind.REGEX]:
            found = (after._groups.get((kind, b"")) for kind in _PATTERN_KINDS)
            after._patterns = [_PatternGroup(group) for group in found if group]
        # What a route that goes may have determined stays: it costs nothing but a look too many.
        after._depth = max((self._depth, *(path.count(b"/") for path in paths[PathKind.PREFIX])))
        priorities = (route.priority for group in changed.values() for route in group[:1])
        after.top_priority = max((self.top_priority, *priorities))
        return after

    def __bool__(self) -> bool:
        return bool(self._groups)

    def best(self, path: bytes, asked: Asked, best: CompiledRoute | None) -> CompiledRoute | None:
        """The best of the routes that take the request, if it has a higher priority than `best`; else that."""
        top = self.top_priority
        if self._exact and (group := self._exact.get(path)) is not None:
            best = _better(group, asked, best)
            if best is not None and best.priority >= top:
                return best
        deepest = self._depth
        if deepest >= 0:
            prefixes = self._prefixes
            segments = (b"" if path == b"*" else path).split(b"/", deepest + 1)
            for depth in range(min(len(segments), deepest + 1), 0, -1):
                group = prefixes.get(b"/".join(segments[:depth]))
                if group is not None:
                    best = _better(group, asked, best)
                    if best is not None and best.priority >= top:
                        return best
        for patterns in self._patterns:
            best = _better(patterns.matching(path), asked, best)
        return _better(self._any, asked, best)


def _better(group: Group, asked: Asked, best: CompiledRoute | None) -> CompiledRoute | None:
    """The first of the group that takes the request, if it has a higher priority than `best`; else that."""
    for route in group:
        if best is not None and route.priority <= best.priority:
            break
        if not route.conditions or route.takes(asked):
            return route
    return best


def _replaced(before: Mapping[_Key, Group], changed: Mapping[_Key, Group]) -> Mapping[_Key, Group]:
    if not changed:
        return before
    after = {**before, **changed}
    for key, group in changed.items():
        if not group:
            del after[key]
    return after


def _order(route: CompiledRoute) -> tuple[int, int, str]:
    return route.order


class _PatternGroup:
    """Routes whose paths are matched by expressions, all in one run. Compiled when they are first needed."""

    __slots__ = ("_routes", "_set")

    def __init__(self, routes: Group) -> None:
        self._routes = routes
        self._set: re2.Set | None = None

    def matching(self, path: bytes) -> Group:
        """Those that match, in order."""
        if self._set is None:
            self._set = self._compiled()
        found = self._set.Match(path)
        return tuple(self._routes[index] for index in sorted(found)) if found else ()

    def _compiled(self) -> re2.Set:
        import re2

        chosen = options()
        chosen.max_mem = _MAX_SET_BYTES
        patterns = re2.Set.FullMatchSet(chosen)
        for route in self._routes:
            patterns.Add(route.path)
        patterns.Compile()
        return patterns


_MAX_SET_BYTES = 64 * 1024 * 1024
