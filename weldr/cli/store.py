"""What the commands work on: the keys, whether they are reached in etcd itself or through an instance's API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from weldr.control.admin.mirror import News
from weldr.etcd.commit import Committed
from weldr.model.departure import Departure
from weldr.model.edits import Edit, Held
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace
from weldr.model.past import Past


class StoreError(Exception):
    """What was asked could not be done; one line that says why."""


@dataclass(frozen=True, slots=True)
class State:
    """All keys of the layout at one revision, and those that are outside it."""

    revision: int
    pairs: Mapping[KeyName, KeyValue]
    strangers: Sequence[KeyValue] = ()

    @property
    def held(self) -> dict[KeyName, Held]:
        """The same, for comparing and writing."""
        return {name: Held(pair.value, pair.mod_revision, pair.lease) for name, pair in self.pairs.items()}


@dataclass(frozen=True, slots=True)
class Left:
    """How a backend left."""

    name: KeyName
    reason: Departure


def with_news(state: State, news: News) -> State:
    """The state after this."""
    pairs = dict(state.pairs)
    for moment in news.moments:
        for change in moment.changes:
            if change.after is None:
                pairs.pop(change.name, None)
            else:
                pairs[change.name] = change.after
    revision = news.moments[-1].revision if news.moments else state.revision
    return State(revision, pairs, state.strangers)


class Store(Protocol):
    """The keys under a prefix. Every method raises `StoreError`."""

    keys: KeySpace
    hides_secrets: bool
    """Whether what it reads lacks what is secret."""

    async def read(self, revision: int = 0) -> State:
        """All keys, now or as they were."""

    async def commit(self, edits: Sequence[Edit], *, dry_run: bool = False) -> Committed:
        """Make edits at one instant, each only if its key has the revision that it expects."""

    async def past(self, limit: int, only: KeyName | None = None) -> Past:
        """The last `limit` changes of configuration (of one key)."""

    def follow(self) -> AsyncIterator[State | News | Left]:
        """First the state, then everything that happens, for good; the state again where events are missing."""
