"""The routes of one host pattern, found by path. Pure.

Routes that are alike in their path stand together, the best first. Which of these groups match a path is found
by looking up the path itself and each of its prefixes, no deeper than any route goes: the cost depends on the
path's depth, not on the number of routes. Patterns are tried one by one, but only those whose beginning fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.compiled import CompiledRoute, PathKind
from weldr.proxy.routing.conditions import Asked
from weldr.proxy.routing.paths import first_segments
from weldr.proxy.routing.pattern_index import PatternIndex

Group = tuple[CompiledRoute, ...]
_LOWEST = -(1 << 62)
_PATTERN_KINDS = (PathKind.GLOB, PathKind.REGEX)


class HostRoutes:
    """Immutable: `changed` returns the next one."""

    __slots__ = ("_any", "_depth", "_exact", "_patterns", "_prefixes", "_tried", "top_priority")

    def __init__(self) -> None:
        self._exact: Mapping[bytes, Group] = {}
        self._prefixes: Mapping[bytes, Group] = {}
        self._patterns = (PatternIndex(), PatternIndex())
        """Globs, and expressions."""
        self._tried: tuple[PatternIndex, ...] = ()
        """Those of them that there are."""
        self._any: Group = ()
        self._depth = -1
        """No prefix has more slashes."""
        self.top_priority = _LOWEST
        """No route has a higher priority."""

    def changed(self, removed: Iterable[CompiledRoute], added: Iterable[CompiledRoute]) -> HostRoutes:
        """Without those, with these. Whatever has not changed is shared."""
        after = HostRoutes()
        gone, come = list(removed), list(added)
        after._exact = _regrouped(self._exact, gone, come, PathKind.EXACT)
        after._prefixes = _regrouped(self._prefixes, gone, come, PathKind.PREFIX)
        after._any = _regrouped({b"": self._any}, gone, come, PathKind.ANY).get(b"", ())
        globs, expressions = (
            index.changed(_of(gone, kind), _of(come, kind))
            for index, kind in zip(self._patterns, _PATTERN_KINDS, strict=True)
        )
        after._patterns = (globs, expressions)
        after._tried = tuple(filter(None, after._patterns))
        # What a route that goes may have determined stays: it costs nothing but a look too many.
        after._depth = max((self._depth, *(route.path.count(b"/") for route in _of(come, PathKind.PREFIX))))
        after.top_priority = max((self.top_priority, *(route.priority for route in come)))
        return after

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes or self._any or any(self._patterns))

    def best(
        self, path: bytes, head: RequestHead, client: str, best: CompiledRoute | None
    ) -> CompiledRoute | None:
        """The best of the routes that take the request, if it has a higher priority than `best`; else that."""
        top = self.top_priority
        if self._exact and (group := self._exact.get(path)) is not None:
            best = _better(group, head, client, best)
            if best is not None and best.priority >= top:
                return best
        deepest = self._depth
        if deepest >= 0:
            get = self._prefixes.get
            prefix = b"" if path == b"*" else first_segments(path, deepest)
            while True:
                group = get(prefix)
                if group is not None:
                    best = _better(group, head, client, best)
                    if best is not None and best.priority >= top:
                        return best
                if not prefix:
                    break
                prefix = prefix[: prefix.rfind(b"/")]
        for patterns in self._tried:
            best = _better_match(patterns.candidates(path), path, head, client, best)
        return _better(self._any, head, client, best) if self._any else best


def _better(group: Group, head: RequestHead, client: str, best: CompiledRoute | None) -> CompiledRoute | None:
    """The first of the group that takes the request, if it has a higher priority than `best`; else that."""
    for route in group:
        if best is not None and route.priority <= best.priority:
            break
        if not route.conditions or route.takes(Asked(head, client)):
            return route
    return best


def _better_match(
    group: Group, path: bytes, head: RequestHead, client: str, best: CompiledRoute | None
) -> CompiledRoute | None:
    """Likewise, of those whose pattern matches."""
    for route in group:
        if best is not None and route.priority <= best.priority:
            break
        if route.matches(path) and (not route.conditions or route.takes(Asked(head, client))):
            return route
    return best


def _of(routes: Iterable[CompiledRoute], kind: PathKind) -> list[CompiledRoute]:
    return [route for route in routes if route.path_kind is kind]


def _regrouped(
    before: Mapping[bytes, Group],
    removed: Iterable[CompiledRoute],
    added: Iterable[CompiledRoute],
    kind: PathKind,
) -> Mapping[bytes, Group]:
    """The groups by path, without those routes of this kind and with these."""
    touched: dict[bytes, list[CompiledRoute]] = {}
    for route in _of(removed, kind):
        touched.setdefault(route.path, list(before[route.path])).remove(route)
    for route in _of(added, kind):
        touched.setdefault(route.path, list(before.get(route.path, ()))).append(route)
    if not touched:
        return before
    after = dict(before)
    for path, routes in touched.items():
        if routes:
            after[path] = tuple(sorted(routes, key=_order))
        else:
            after.pop(path)
    return after


def _order(route: CompiledRoute) -> tuple[int, int, str]:
    return route.order
