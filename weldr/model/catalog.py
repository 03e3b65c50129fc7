"""The catalog: every key under the prefix that says where requests go, folded forward one revision at a time.

A `Catalog` is never edited. `fold` and `resync` return the next one, which shares whatever did not change with
the one before: an unchanged backend stays the same object, and so keeps its connections, health and counters.

Two rules make folding safe to repeat and to resume:

- A revision that is not above the catalog's has been folded before and is skipped.
- A value that cannot be understood harms its own key only. The key keeps its last good value while it lives
  (its creation revision stays the same), and is left out if it never had one. The problem is kept with it.
  So it is with a route that clashes with others, which `RouteClaims` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from weldr.model.conflicts import Conflicts
from weldr.model.decode import DECODED, Fault, decode
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeyLayoutError, KeyName, KeySpace, Kind
from weldr.model.route_claims import Conflict, RouteClaims, Written
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, InstanceOverride, Override, Route, Service, Settings, StickyKey, Value

_SHOWN_CHARACTERS = 200


class Problem(msgspec.Struct, frozen=True):
    """A key or value that cannot be understood, or cannot mean what it says beside others.

    Its texts are short, whatever the key and the value hold.
    """

    key: str
    revision: int
    place: str
    """Where in the value, such as `$.weight` or `byte 3`; `key` for the key itself."""
    reason: str

    def __post_init__(self) -> None:
        for name in ("key", "place", "reason"):
            msgspec.structs.force_setattr(self, name, _shortened(getattr(self, name)))

    def __str__(self) -> str:
        return f"{self.key} at revision {self.revision}, {self.place}: {self.reason}"


def _shortened(text: str) -> str:
    half = _SHOWN_CHARACTERS // 2
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:half]} … {text[-half:]}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that the catalog holds. `name` is `None` for one outside the layout."""

    name: KeyName | None
    create_revision: int
    mod_revision: int
    lease: int
    value: Value | None
    """The last good value of this life of the key."""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries by key, and the `traffic` that follows from them."""

    keys: KeySpace
    revision: int = 0
    """The last revision of etcd that is folded in."""
    configuration_revision: int = 0
    """The last one that may have changed a key which instances do not write themselves: of a read of all keys,
    its own. Whoever waits for a change, be it a deletion, waits for this."""
    known_change: int = 0
    """The last one that is known to have changed such a key: of a read of all keys, the newest key's. It does
    not depend on when somebody read, and is never above the `configuration_revision` of who is not behind."""
    entries: Mapping[bytes, Entry] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    faults: Mapping[bytes, Problem] = field(default_factory=dict)
    """Every key that cannot be understood. Kept apart, as `override_ends` is, since nobody can afford to look
    through all entries at each change."""
    problems: Mapping[bytes, Problem] = field(default_factory=dict)
    """The faults, and what is wrong with keys beside others."""
    claims: RouteClaims = field(default_factory=RouteClaims)
    conflicts: Conflicts = field(default_factory=Conflicts)
    override_ends: Mapping[bytes, datetime] = field(default_factory=dict)
    """The `until` of each override that has one."""
    ended_overrides: frozenset[bytes] = frozenset()
    """Overrides whose `until` has passed, by the clock of whoever called `end_overrides`."""
    held: Mapping[bytes, Entry] = field(default_factory=dict)
    """Backends that are in the traffic although their keys are gone, by the decision of whoever called
    `hold`."""

    def fold(self, revisions: Iterable[Revision]) -> Catalog:
        """The catalog after these revisions, in their order. Those already folded change nothing."""
        builder = _Builder(self)
        for revision in revisions:
            if revision.revision <= builder.revision:
                continue
            builder.revision = revision.revision
            for event in revision.events:
                builder.event(event)
            builder.settle_routes()
        return builder.catalog()

    def resync(self, revision: int, key_values: Iterable[KeyValue]) -> Catalog:
        """The catalog that a read of all keys at `revision` describes, as a difference from this one.

        Also for a restored etcd, where `revision` may be lower: every key is compared by its value, since the
        revisions of two clusters say nothing about each other.
        """
        builder = _Builder(self)
        builder.revision = builder.configuration_revision = revision
        builder.known_change = 0
        seen = set()
        for key_value in key_values:
            seen.add(key_value.key)
            if key_value.mod_revision > builder.known_change and not self.keys.is_reported(key_value.key):
                builder.known_change = key_value.mod_revision
            builder.put(key_value)
        for key in [key for key in builder.entries if key not in seen]:
            builder.delete(key)
        builder.settle_routes()
        return builder.catalog()

    def end_overrides(self, now: datetime) -> Catalog:
        """The catalog with every override without effect whose `until` is not after `now`."""
        ended = frozenset(key for key, until in self.override_ends.items() if until <= now)
        if ended == self.ended_overrides:
            return self
        builder = _Builder(replace(self, ended_overrides=ended))
        for key in ended ^ self.ended_overrides:
            if key in self.entries:
                builder.touch(self.entries[key])
        return builder.catalog()

    def next_override_end(self) -> datetime | None:
        """When `end_overrides` has to be called next."""
        ends = (until for key, until in self.override_ends.items() if key not in self.ended_overrides)
        return min(ends, default=None)

    def is_drained(self, instance: str) -> bool:
        """Whether an operator has taken this instance out of service."""
        key = self.keys.key(Kind.INSTANCE_OVERRIDE, instance)
        entry = self.entries.get(key)
        value = entry.value if entry is not None else None
        return isinstance(value, InstanceOverride) and value.drain and key not in self.ended_overrides

    def hold(self, held: Mapping[bytes, Entry]) -> Catalog:
        """The catalog with these backends, and no others, in its traffic beside those that have a key."""
        if held == self.held:
            return self
        builder = _Builder(replace(self, held=held))
        for key in held.keys() | self.held.keys():
            if held.get(key) is not self.held.get(key):
                builder.touch(held.get(key) or self.held[key])
        return builder.catalog()


class _Builder:
    """Collects changes to a copy of the entries, then rebuilds the touched part of the traffic once."""

    def __init__(self, base: Catalog) -> None:
        self.base = base
        self.keys = base.keys
        self.revision = base.revision
        self.configuration_revision = base.configuration_revision
        self.known_change = base.known_change
        self.entries = dict(base.entries)
        self.faults = dict(base.faults)
        self.override_ends = dict(base.override_ends)
        self.ended_overrides = base.ended_overrides
        self._backends: set[tuple[str, str]] = set()
        self._policies: set[str] = set()
        self._claims = base.claims
        self._written: dict[str, Written | None] = {}
        self._ended: set[str] = set()
        """Routes that were written at this instant, and those of them whose keys went, or are others."""
        self._routes: set[str] = set()
        """Those of which another value is accepted now."""
        self._changed_routes: set[str] = set()
        """Those of which another value is in force now."""
        self._settings = False
        self._sticky_key = False
        self._problem_rewritten = False
        """Whether a key that has a problem was put again, maybe as it was: the problem tells its revision."""

    def event(self, event: Event) -> None:
        key = event.key_value.key
        if not self.keys.is_reported(key):
            self.configuration_revision = self.known_change = self.revision
        if event.deleted:
            self.delete(key)
        else:
            self.put(event.key_value)

    def put(self, key_value: KeyValue) -> None:
        held = self.entries.get(key_value.key)
        entry = self._entry(key_value, held)
        if entry is None:
            return
        self.entries[key_value.key] = entry
        self._problem_rewritten |= key_value.key in self.base.problems
        self._index(key_value.key, entry)
        self.ended_overrides -= {key_value.key}
        if entry.name is not None and entry.name.kind is Kind.ROUTE:
            self._write_route(entry.name.names[0], entry, held)
            return
        if held is None or held.value is not entry.value or key_value.key in self.base.ended_overrides:
            self.touch(entry)

    def delete(self, key: bytes) -> None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self._index(key, None)
            self.ended_overrides -= {key}
            if entry.name is not None and entry.name.kind is Kind.ROUTE:
                self._write_route(entry.name.names[0], None, entry)
            self.touch(entry)

    def _write_route(self, name: str, entry: Entry | None, held: Entry | None) -> None:
        if entry is None or held is None or held.create_revision != entry.create_revision:
            self._ended.add(name)
        elif held == entry and held.value is entry.value:
            return
        self._written[name] = None
        if entry is not None and entry.problem is None and isinstance(entry.value, Route):
            self._written[name] = Written(entry.mod_revision, entry.value)

    def settle_routes(self) -> None:
        """Judge the routes after each instant: what is kept of a refused one is what was accepted before it,
        however many instants are folded at once."""
        if not self._written:
            return
        if self._claims is self.base.claims:
            self._claims = self.base.claims.copy()
        self._routes |= self._claims.settle(self._written, self._ended)
        self._written, self._ended = {}, set()

    def _index(self, key: bytes, entry: Entry | None) -> None:
        if entry is not None and entry.problem is not None:
            self.faults[key] = entry.problem
        else:
            self.faults.pop(key, None)
        if entry is not None and isinstance(entry.value, Override | InstanceOverride) and entry.value.until:
            self.override_ends[key] = entry.value.until
        else:
            self.override_ends.pop(key, None)

    def _entry(self, key_value: KeyValue, held: Entry | None) -> Entry | None:
        name: KeyName | None = None
        value: Value | None = None
        try:
            name = self.keys.parse(key_value.key)
        except KeyLayoutError as error:
            found: Value | Fault = Fault("key", error.reason)
        else:
            if name.kind not in DECODED:
                return None
            found = decode(name.kind, key_value.value)
        problem = None
        if isinstance(found, Fault):
            text = key_value.key.decode("utf-8", "backslashreplace")
            problem = Problem(text, key_value.mod_revision, found.place, found.reason)
            if held is not None and held.create_revision == key_value.create_revision:
                value = held.value
        else:
            value = held.value if held is not None and held.value == found else found
        return Entry(name, key_value.create_revision, key_value.mod_revision, key_value.lease, value, problem)

    def touch(self, entry: Entry) -> None:
        if entry.name is None:
            return
        kind, names = entry.name.kind, entry.name.names
        if kind in (Kind.BACKEND, Kind.OVERRIDE):
            self._backends.add((names[0], names[1]))
        elif kind is Kind.SERVICE:
            self._policies.add(names[0])
        elif kind is Kind.SETTINGS:
            self._settings = True
        elif kind is Kind.STICKY_KEY:
            self._sticky_key = True

    def catalog(self) -> Catalog:
        traffic = self._traffic()
        conflicts = self._conflicts(traffic)
        return Catalog(
            self.keys,
            self.revision,
            self.configuration_revision,
            self.known_change,
            self.entries,
            traffic,
            self.faults,
            self._problems(conflicts),
            self._claims,
            conflicts,
            self.override_ends,
            self.ended_overrides,
            self.base.held,
        )

    def _conflicts(self, traffic: Traffic) -> Conflicts:
        services = {service for service, _ in self._backends}
        before = self.base.traffic
        routes = self._changed_routes
        if not routes and not services:
            return self.base.conflicts
        return self.base.conflicts.changed(before, traffic, routes, services)

    def _problems(self, conflicts: Conflicts) -> Mapping[bytes, Problem]:
        refused, base = self._claims.refused, self.base
        if not conflicts.by_route and not refused:
            return self.faults
        same = conflicts.by_route is base.conflicts.by_route and refused == base.claims.refused
        if same and self.faults == base.faults and not self._problem_rewritten:
            return base.problems
        problems = dict(self.faults)
        for found in (refused, conflicts.by_route):
            for name, conflict in found.items():
                key = self.keys.key(Kind.ROUTE, name)
                if key not in problems:
                    problems[key] = self._problem(key, conflict)
        return problems

    def _problem(self, key: bytes, conflict: Conflict) -> Problem:
        text = key.decode("utf-8", "backslashreplace")
        return Problem(text, self.entries[key].mod_revision, conflict.place, conflict.reason)

    def _traffic(self) -> Traffic:
        before = self.base.traffic
        services, routes, settings = before.services, before.routes, before.settings
        sticky_key = before.sticky_key
        if self._backends or self._policies:
            services = self._services(before.services)
        if self._claims is not self.base.claims:
            routes = self._routes_in_force(before.routes)
        if self._settings:
            found = self._value(Kind.SETTINGS)
            settings = found if isinstance(found, Settings) else Settings()
        if self._sticky_key:
            key = self._value(Kind.STICKY_KEY)
            sticky_key = key.key if isinstance(key, StickyKey) else Traffic().sticky_key
        after = (services, routes, settings, sticky_key)
        if all(new is old for new, old in zip(after, msgspec.structs.astuple(before), strict=True)):
            return before
        return Traffic(*after)

    def _routes_in_force(self, before: Mapping[str, Route]) -> Mapping[str, Route]:
        kept = self._claims.kept()
        concerned = self._routes | self._claims.last_good.keys() | self.base.claims.last_good.keys()
        now = {name: self._claims.accepted(name) or kept.get(name) for name in concerned}
        self._changed_routes = {name for name, route in now.items() if before.get(name) is not route}
        routes = dict(before)
        for name in self._changed_routes:
            if (route := now[name]) is not None:
                routes[name] = route
            else:
                routes.pop(name, None)
        return routes if self._changed_routes else before

    def _services(self, before: Mapping[str, ServiceTraffic]) -> Mapping[str, ServiceTraffic]:
        changed: dict[str, dict[str, Backend]] = {}
        for service, backend_id in self._backends:
            if service not in changed:
                held = before.get(service)
                changed[service] = dict(held.backends) if held else {}
            backend = self._effective_backend(service, backend_id)
            if backend is None:
                changed[service].pop(backend_id, None)
            elif changed[service].get(backend_id) != backend:
                changed[service][backend_id] = backend
        services = dict(before)
        for name in changed.keys() | self._policies:
            held = before.get(name)
            backends = changed.get(name, held.backends if held else {})
            policy = self._value(Kind.SERVICE, name)
            if not backends and policy is None:
                services.pop(name, None)
                continue
            after = ServiceTraffic(policy if isinstance(policy, Service) else Service(), backends)
            if held is None or held != after:
                services[name] = after
        return services

    def _effective_backend(self, service: str, backend_id: str) -> Backend | None:
        backend = self._value(Kind.BACKEND, service, backend_id)
        if not isinstance(backend, Backend):
            return None
        override_key = self.keys.key(Kind.OVERRIDE, service, backend_id)
        override = self._value(Kind.OVERRIDE, service, backend_id)
        if isinstance(override, Override) and override_key not in self.ended_overrides:
            return override.applied_to(backend)
        return backend

    def _value(self, kind: Kind, *names: str) -> Value | None:
        key = self.keys.key(kind, *names)
        entry = self.entries.get(key) or self.base.held.get(key)
        return None if entry is None else entry.value
