"""Which routes are refused for the sake of others: of those that ask for the same all but one, and whose mirror
closes a circle. Pure.

Routes are taken in the order in which their values were written (by modification revision, then by name), and
one that clashes with those taken before it is refused. So whoever writes a route harms no other with it; who is
refused follows from the keys as they are and not from how an instance learnt of them; and when the one in the
way goes, the refused one comes into force by itself.

A key whose value is refused, or cannot be understood, keeps its last good value: the last that was taken in
this life of the key. That depends on what an instance has seen, so it gives way to every value that keys have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from weldr.model.name_index import NameIndex
from weldr.model.routes import Match, Route

_Asked = tuple[object, ...]
_Names = frozenset[str]
_NONE: _Names = frozenset()
_Targets = dict[str, set[str]]


class Conflict(NamedTuple):
    """What is wrong with a route beside other keys, and where in it."""

    place: str
    reason: str


class Written(NamedTuple):
    """A route as its key says it now, and the revision that wrote it."""

    revision: int
    route: Route


class _Claim(NamedTuple):
    revision: int
    name: str
    """Claims are taken in the order of these two, which no other claim has in common."""
    route: Route
    asked: _Asked


@dataclass(slots=True)
class RouteClaims:
    """Of all routes that can be understood, by name. Changed in place only by whoever made the copy."""

    refused: dict[str, Conflict] = field(default_factory=dict)
    last_good: dict[str, Route] = field(default_factory=dict)
    """Of each key that has nothing better."""
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _by_asked: NameIndex[_Asked] = field(default_factory=NameIndex)
    _taken: dict[_Asked, str] = field(default_factory=dict)
    """Of the routes that ask for the same, the one in force."""
    _mirrored_from: NameIndex[str] = field(default_factory=NameIndex)
    """By service, the routes that it answers and that have a mirror."""
    _mirrored_to: NameIndex[str] = field(default_factory=NameIndex)
    _knotted: _Names = _NONE
    """The routes that a circle may go through."""

    def copy(self) -> RouteClaims:
        """One to change."""
        return RouteClaims(*(getattr(self, each.name).copy() for each in fields(self)))

    def settle(self, changed: Mapping[str, Written | None], ended: Collection[str] = ()) -> set[str]:
        """After these keys were written at one instant: what they say, `None` for what cannot be understood or
        is gone. `ended` are those that are gone, or were before they were written.

        Returns the names of which another value, or none, is accepted now.
        """
        before = {name: None if name in ended else self.accepted(name) for name in changed}
        for name in ended:
            self.last_good.pop(name, None)
        concerned: set[_Asked] = set()
        for name, written in changed.items():
            concerned |= self._replace(name, written)
        verdicts = self._judged(concerned)
        before |= {name: self.accepted(name) for name in verdicts if name not in before}
        self._apply(verdicts, concerned)
        moved = set()
        for name, good in before.items():
            now = self.accepted(name)
            if now is not None:
                self.last_good.pop(name, None)
            elif good is not None:
                self.last_good[name] = good
            if now is not good:
                moved.add(name)
        return moved | set(ended)

    def accepted(self, name: str) -> Route | None:
        """What a key says, unless that is refused."""
        claim = self._claims.get(name)
        return None if claim is None or name in self.refused else claim.route

    def kept(self) -> dict[str, Route]:
        """The last good values that stay in force, since they clash with nothing that is."""
        kept: dict[str, Route] = {}
        taken: set[_Asked] = set()
        mirrors: _Targets | None = None
        for name, route in sorted(self.last_good.items()):
            asked = _asked(route)
            if asked in taken or asked in self._taken:
                continue
            if route.mirror is not None:
                mirrors = self._mirrors() if mirrors is None else mirrors
                if _circle(mirrors, route) is not None:
                    continue
                _add(mirrors, route)
            kept[name] = route
            taken.add(asked)
        return kept

    def _mirrors(self) -> _Targets:
        mirrors: _Targets = {}
        for service in self._mirrored_to:
            for name in self._mirrored_to.names(service):
                if (route := self.accepted(name)) is not None:
                    _add(mirrors, route)
        return mirrors

    def _replace(self, name: str, written: Written | None) -> set[_Asked]:
        """Put what a key says in place of what it said. Returns what was and what is asked for."""
        concerned = set()
        claim = self._claims.pop(name, None)
        if claim is not None:
            self._note(claim, present=False)
            concerned.add(claim.asked)
            if written is None:
                self.refused.pop(name, None)
        if written is not None:
            claim = _Claim(written.revision, name, written.route, _asked(written.route))
            self._claims[name] = claim
            self._note(claim, present=True)
            concerned.add(claim.asked)
        return concerned

    def _note(self, claim: _Claim, present: bool) -> None:
        note = NameIndex.add if present else NameIndex.discard
        note(self._by_asked, claim.asked, claim.name)
        if claim.route.mirror is not None:
            note(self._mirrored_to, claim.route.mirror.service, claim.name)
            for service in answering(claim.route):
                note(self._mirrored_from, service, claim.name)

    def _judged(self, concerned: set[_Asked]) -> dict[str, Conflict | None]:
        """Who of those that ask for this is refused, and for what. Adds to `concerned` what mirrors concern."""
        before, self._knotted = self._knotted, self._may_circle()
        named = {name for asked in concerned for name in self._by_asked.names(asked)}
        if before != self._knotted or not named.isdisjoint(self._knotted):
            for name in before | self._knotted:
                if name in self._claims:
                    concerned.add(self._claims[name].asked)
        claims = [self._claims[name] for asked in concerned for name in self._by_asked.names(asked)]
        taken: dict[_Asked, str] = {}
        mirrors: _Targets = {}
        verdicts: dict[str, Conflict | None] = {}
        for _, name, route, asked in sorted(claims, key=lambda claim: claim[:2]):
            if asked in taken:
                reason = f"it asks for the same as the route {taken[asked]}, written before it: it is refused"
                verdicts[name] = Conflict("$", reason)
                continue
            if name in self._knotted:
                if (circle := _circle(mirrors, route)) is not None:
                    reason = f"mirrors would go in a circle, {' → '.join(circle)}: it is refused"
                    verdicts[name] = Conflict("$.mirror.service", reason)
                    continue
                _add(mirrors, route)
            taken[asked] = name
            verdicts[name] = None
        return verdicts

    def _may_circle(self) -> _Names:
        """A circle goes only through services that are both mirrored and mirrored to: hardly ever is one."""
        both = self._mirrored_from.keys() & self._mirrored_to.keys()
        return frozenset(
            name
            for service in both
            for name in self._mirrored_from.names(service)
            if (mirror := self._claims[name].route.mirror) is not None and mirror.service in both
        )

    def _apply(self, verdicts: Mapping[str, Conflict | None], concerned: Iterable[_Asked]) -> None:
        for asked in concerned:
            self._taken.pop(asked, None)
        for name, conflict in verdicts.items():
            if conflict is None:
                self.refused.pop(name, None)
                self._taken[self._claims[name].asked] = name
            else:
                self.refused[name] = conflict


def answering(route: Route) -> list[str]:
    """The services that answer its requests."""
    if route.service is not None:
        return [route.service]
    return [name for name, weight in route.services.items() if weight]


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


def _add(mirrors: _Targets, route: Route) -> None:
    if route.mirror is not None:
        for service in answering(route):
            mirrors.setdefault(service, set()).add(route.mirror.service)


def _circle(mirrors: _Targets, route: Route) -> list[str] | None:
    """The services of the shortest circle that the mirror of a route would close among these."""
    if route.mirror is None:
        return None
    closing = set(answering(route))
    start = route.mirror.service
    came_from: dict[str, str | None] = {start: None}
    reached = [start]
    for service in reached:
        if service in closing:
            way = [service]
            while (before := came_from[way[-1]]) is not None:
                way.append(before)
            return [service, *reversed(way)]
        for target in sorted(mirrors.get(service, ())):
            if target not in came_from:
                came_from[target] = service
                reached.append(target)
    return None
