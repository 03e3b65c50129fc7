"""Routes whose paths are matched by patterns, found by what their paths have to begin with. Pure.

Each pattern is compiled once, by itself, when its route comes: a change compiles no other, and one that is
large keeps no request waiting. To be tried, a pattern has to begin with whole segments that the path begins
with, too; so a lookup costs one look for each segment of the path, and what the few patterns cost that may
match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from weldr.proxy.routing.compiled import CompiledRoute
from weldr.proxy.routing.paths import first_segments

Group = tuple[CompiledRoute, ...]


class PatternIndex:
    """Immutable: `changed` returns the next one."""

    __slots__ = ("_by_beginning", "_depth")

    def __init__(self, by_beginning: Mapping[bytes, Group] | None = None) -> None:
        self._by_beginning = by_beginning or {}
        self._depth = max((beginning.count(b"/") for beginning in self._by_beginning), default=0)

    def __bool__(self) -> bool:
        return bool(self._by_beginning)

    def changed(self, removed: Iterable[CompiledRoute], added: Iterable[CompiledRoute]) -> PatternIndex:
        """Without those, with these."""
        by_beginning = dict(self._by_beginning)
        for route in removed:
            left = tuple(each for each in by_beginning[route.beginning] if each is not route)
            if left:
                by_beginning[route.beginning] = left
            else:
                del by_beginning[route.beginning]
        for route in added:
            group = (*by_beginning.get(route.beginning, ()), route)
            by_beginning[route.beginning] = tuple(sorted(group, key=_order))
        return PatternIndex(by_beginning)

    def candidates(self, path: bytes) -> Group:
        """Those that may match this path, in their order."""
        by_beginning = self._by_beginning
        beginning = first_segments(path, self._depth)
        found: Group = ()
        while True:
            group = by_beginning.get(beginning)
            if group is not None:
                found = tuple(sorted(found + group, key=_order)) if found else group
            slash = beginning.rfind(b"/")
            if slash < 0:
                return found
            beginning = beginning[:slash]


def _order(route: CompiledRoute) -> tuple[int, int, str]:
    return route.order
