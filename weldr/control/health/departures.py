"""Tells the end of many leases from the end of many backends. Pure: it is told the time, and what became of
leases.

A backend whose key goes leaves the rotation at once. But if most leases of a service run out within a short
time, that is more likely etcd's trouble, or that of the network to it, than theirs: those backends are *held*,
in the same instant, and stay for as long as they answer, for at most `expired_grace_s`.

| state   | meaning                               | leaves it                                               |
|---------|---------------------------------------|---------------------------------------------------------|
| gone    | the key went, and is not missed       | most others go, too -> held; put again, lease alive,    |
|         |                                       | or `WINDOW_S` over -> forgotten                         |
| held    | in rotation without a key             | put again, lease alive, no answer or time over          |
|         |                                       | -> forgotten; others' leases alive, so that it was not  |
|         |                                       | most that went -> gone                                  |

That some are back does not end it for the others: they will not all register in the same instant.

Whoever deletes its own key means it: its lease is still alive, which etcd is asked about each that went. So
this is believed as soon as etcd has answered, and at once unless most of the service goes. A lease that was
revoked looks like one that ran out; and a backend that was draining, or never had a lease, is believed whatever
happens.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from weldr.model.catalog import Catalog, Entry
from weldr.model.decode import decode
from weldr.model.departure import Departure, departure_of
from weldr.model.events import KeyValue
from weldr.model.keys import KeyLayoutError, KeyName, Kind
from weldr.model.values import Backend, Service

WINDOW_S = 30.0
"""Leases that run out within it ran out together: longer than the time to live of nearly all."""
_FEWEST_LEASES = 2
# Beyond this they are believed: what is remembered has to have an end.
_MAX_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Left:
    """A backend whose key went at a revision, and how."""

    name: KeyName
    revision: int
    how: Departure


@dataclass(frozen=True, slots=True)
class Deletion:
    """Of a key, at a revision."""

    revision: int
    last: KeyValue | None = None
    """What was put there since the catalog before, if anything was."""


@dataclass(slots=True)
class _Departure:
    """A key that went while it had a lease."""

    entry: Entry
    """As it was last."""
    revision: int
    at_s: float
    may_stay: bool
    """Not if it never was in rotation, or does not answer."""
    judged: bool = False
    held_until_s: float | None = None

    @property
    def names(self) -> tuple[str, str]:
        assert self.entry.name is not None
        service, backend_id = self.entry.name.names
        return service, backend_id

    def left(self, how: Departure) -> Left:
        """It went like this."""
        assert self.entry.name is not None
        return Left(self.entry.name, self.revision, how)


class Departures:
    """See the module."""

    def __init__(self) -> None:
        self.held: Mapping[bytes, Entry] = {}
        """The backends that stay. Replaced, never edited."""
        self._gone: dict[bytes, _Departure] = {}
        self._catalog: Catalog | None = None

    def observe(
        self, before: Catalog, after: Catalog, deleted: Mapping[bytes, Deletion], now_s: float
    ) -> list[Left]:
        """The catalog has changed, and these keys were deleted meanwhile; some may be back.
        How backends left of which that is certain already; `judge` has the others.
        """
        self._catalog = after
        left = []
        touched = set()
        for key in [key for key in self._gone if key in after.entries]:
            del self._gone[key]
        for key, deletion in deleted.items():
            entry = _last_entry(before, key, deletion.last)
            if entry is None or key in after.entries:
                continue
            departure = _Departure(entry, deletion.revision, now_s, may_stay=key in before.entries)
            how = departure_of(entry.value, entry.lease, None)
            if how is not None:
                left.append(departure.left(how))
            elif len(self._gone) < _MAX_REMEMBERED:
                self._gone[key] = departure
                touched.add(departure.names[0])
        self._decide(touched, now_s)
        return left

    def unjudged_leases(self) -> set[int]:
        """The leases of which it is not known whether they are alive."""
        return {departure.entry.lease for departure in self._gone.values() if not departure.judged}

    def judge(self, verdicts: Mapping[int, bool], now_s: float) -> list[Left]:
        """Whether these leases are alive, says etcd. How backends left of which that was not certain."""
        judged = []
        touched = set()
        for key, departure in list(self._gone.items()):
            alive = verdicts.get(departure.entry.lease)
            if departure.judged or alive is None:
                continue
            how = departure_of(departure.entry.value, departure.entry.lease, alive)
            assert how is not None
            judged.append(departure.left(how))
            departure.judged = True
            if alive or not departure.may_stay:
                del self._gone[key]
            if alive and departure.may_stay:
                touched.add(departure.names[0])
        self._decide(touched, now_s, again=True)
        return judged

    def drop(self, backends: Container[tuple[str, str]]) -> None:
        """These held backends, by service and id, do not answer."""
        for key, departure in list(self._gone.items()):
            if departure.names not in backends:
                continue
            if departure.judged:
                del self._gone[key]
            else:
                # How it left is still to be told.
                departure.may_stay, departure.held_until_s = False, None
        self._publish()

    def tick(self, now_s: float) -> None:
        """Forget what is over."""
        for key, departure in list(self._gone.items()):
            over_s = departure.held_until_s or departure.at_s + WINDOW_S
            if over_s <= now_s:
                del self._gone[key]
        self._publish()

    def next_s(self) -> float | None:
        """When `tick` is to be called next."""
        return min(
            (departure.held_until_s or departure.at_s + WINDOW_S for departure in self._gone.values()),
            default=None,
        )

    def held_backends(self) -> dict[tuple[str, str], bool]:
        """The backends that stay, by service and id; whether it is certain that their leases are gone."""
        return {
            departure.names: departure.judged
            for departure in self._gone.values()
            if departure.held_until_s is not None
        }

    def _decide(self, services: set[str], now_s: float, *, again: bool = False) -> None:
        """Hold what has to be; `again` if what is held may be so no longer."""
        gone_of: dict[str, list[_Departure]] = {service: [] for service in services}
        for departure in self._gone.values():
            if departure.may_stay and (service := departure.names[0]) in gone_of:
                gone_of[service].append(departure)
        for service, gone in gone_of.items():
            grace_s = self._policy(service).expired_grace_s
            if grace_s > 0 and self._are_most(service, gone):
                for departure in gone:
                    departure.held_until_s = departure.held_until_s or now_s + grace_s
            elif again:
                for departure in gone:
                    departure.held_until_s = None
        self._publish()

    def _are_most(self, service: str, gone: list[_Departure]) -> bool:
        leases_gone = {departure.entry.lease for departure in gone}
        if len(leases_gone) < _FEWEST_LEASES:
            return False
        return len(leases_gone) > len(self._live_leases(service) - leases_gone)

    def _live_leases(self, service: str) -> set[int]:
        catalog = self._catalog
        assert catalog is not None
        held = catalog.traffic.services.get(service)
        entries = (
            catalog.entries.get(catalog.keys.key(Kind.BACKEND, service, backend_id))
            for backend_id in (held.backends if held else ())
        )
        return {entry.lease for entry in entries if entry is not None and entry.lease}

    def _policy(self, service: str) -> Service:
        assert self._catalog is not None
        entry = self._catalog.entries.get(self._catalog.keys.key(Kind.SERVICE, service))
        value = entry.value if entry is not None else None
        return value if isinstance(value, Service) else Service()

    def _publish(self) -> None:
        held = {key: each.entry for key, each in self._gone.items() if each.held_until_s is not None}
        if held != self.held:
            self.held = held


def _last_entry(before: Catalog, key: bytes, last: KeyValue | None) -> Entry | None:
    """A backend's entry before it was deleted; `None` for what is no backend."""
    entry = before.entries.get(key)
    if last is None:
        return entry if entry is not None and isinstance(entry.value, Backend) else None
    try:
        name = before.keys.parse(key)
    except KeyLayoutError:
        return None
    value = decode(Kind.BACKEND, last.value) if name.kind is Kind.BACKEND else None
    if not isinstance(value, Backend):
        return None
    return Entry(name, last.create_revision, last.mod_revision, last.lease, value)
