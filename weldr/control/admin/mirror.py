"""Every key under the prefix as this instance last saw it: what the API reads from, at no cost to etcd.

The catalog keeps what values mean; people want to see what they say. Both are fed by the same changes, at the
same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from weldr.etcd.follow import Change, Snapshot
from weldr.model.catalog import Catalog, Problem
from weldr.model.collections import COLLECTIONS
from weldr.model.events import Event, KeyValue
from weldr.model.keys import KeyLayoutError, KeyName, KeySpace, Kind


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key before and after; `None` where there was or is none."""

    name: KeyName
    before: KeyValue | None
    after: KeyValue | None


@dataclass(frozen=True, slots=True)
class Moment:
    """All that changed in one revision."""

    revision: int
    changes: tuple[KeyChange, ...]
    state: int = 0
    """Stands for all keys as they were then; 0 where nobody asks for it."""


@dataclass(frozen=True, slots=True)
class News:
    """What one step brought. `restarted` if it does not follow what was known before."""

    moments: tuple[Moment, ...]
    problems_before: Mapping[bytes, Problem]
    problems: Mapping[bytes, Problem]
    restarted: bool


class Mirror:
    """Owner of the raw keys. `on_news` is called after each step but the first."""

    def __init__(self, keys: KeySpace, on_news: Callable[[News], None]) -> None:
        self.keys = keys
        self.revision = 0
        """The last one that is taken in; 0 before there is any."""
        self.state = 0
        """Stands for all keys as they are: the same at every instance, however it came to know them."""
        self.problems: Mapping[bytes, Problem] = {}
        self._on_news = on_news
        self._pairs: dict[Kind, dict[bytes, KeyValue]] = {kind: {} for kind in Kind}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def take(self, changes: Sequence[Change], catalog: Catalog) -> None:
        """Take in what the catalog was made from."""
        first = self.revision == 0
        restarted = False
        moments = []
        for change in changes:
            if isinstance(change, Snapshot):
                restarted |= change.revision < self.revision or change.reason == "restored"
                moments.append(self._snapshot(change))
            elif change.revision > self.revision:
                found = [self._event(event) for event in change.events]
                moments.append(Moment(change.revision, tuple(item for item in found if item), self.state))
            else:
                continue
            self.revision = change.revision
        before, self.problems = self.problems, catalog.problems
        self._wake()
        if not first:
            self._on_news(News(tuple(moments), before, self.problems, restarted))

    def _snapshot(self, snapshot: Snapshot) -> Moment:
        gone = {key for pairs in self._pairs.values() for key in pairs}
        changes = []
        for pair in snapshot.key_values:
            gone.discard(pair.key)
            changes.append(self._put(pair))
        changes += [self._remove(key) for key in gone]
        return Moment(snapshot.revision, tuple(change for change in changes if change), self.state)

    def _event(self, event: Event) -> KeyChange | None:
        return self._remove(event.key_value.key) if event.deleted else self._put(event.key_value)

    def _put(self, pair: KeyValue) -> KeyChange | None:
        name = self._name(pair.key)
        if name is None:
            return None
        before = self._pairs[name.kind].get(pair.key)
        self._pairs[name.kind][pair.key] = pair
        if before == pair:
            return None
        self.state ^= _fingerprint(name.kind, pair) ^ (_fingerprint(name.kind, before) if before else 0)
        return KeyChange(name, before, pair)

    def _remove(self, key: bytes) -> KeyChange | None:
        name = self._name(key)
        before = self._pairs[name.kind].pop(key, None) if name else None
        if name is None or before is None:
            return None
        self.state ^= _fingerprint(name.kind, before)
        return KeyChange(name, before, None)

    def _name(self, key: bytes) -> KeyName | None:
        try:
            return self.keys.parse(key)
        except KeyLayoutError:
            return None

    def pair(self, name: KeyName) -> KeyValue | None:
        """One key."""
        return self._pairs[name.kind].get(self.keys.key(name.kind, *name.names))

    def of_kind(self, kind: Kind, *names: str) -> list[KeyValue]:
        """All keys of a kind (with these first names), in order."""
        pairs = self._pairs[kind]
        if names:
            prefix = self.keys.of_kind(kind, *names)
            return [pairs[key] for key in sorted(pairs) if key.startswith(prefix)]
        return [pairs[key] for key in sorted(pairs)]

    async def reached(self, revision: int, limit_s: float) -> bool:
        """Wait until a revision is taken in, at most `limit_s`."""
        if self.revision >= revision:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        done, _ = await asyncio.wait({future}, timeout=limit_s)
        self._waiting = [item for item in self._waiting if item[1] is not future]
        return bool(done)

    def _wake(self) -> None:
        for revision, future in self._waiting:
            if revision <= self.revision and not future.done():
                future.set_result(None)


def _fingerprint(kind: Kind, pair: KeyValue) -> int:
    """Stands for all that etcd says of a key, in every process; for no value that nobody is to see."""
    value = b"" if COLLECTIONS[kind.value].secrets else pair.value
    numbers = b"%d %d %d %d " % (len(pair.key), pair.create_revision, pair.mod_revision, pair.lease)
    return int.from_bytes(blake2b(numbers + pair.key + value, digest_size=8).digest())
