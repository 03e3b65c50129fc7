"""What the commands work on: the keys, whether they are reached in etcd itself or through an instance's API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from weldr.control.admin.mirror import News
from weldr.control.departures import Departure
from weldr.etcd.commit import Committed
from weldr.model.edits import Edit, Held
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace


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


class Store(Protocol):
    """The keys under a prefix. Every method raises `StoreError`."""

    keys: KeySpace
    hides_secrets: bool
    """Whether what it reads lacks what is secret."""

    async def read(self, revision: int = 0) -> State:
        """All keys, now or as they were."""

    async def commit(self, edits: Sequence[Edit], *, dry_run: bool = False) -> Committed:
        """Make edits at one instant, each only if its key has the revision that it expects."""

    def follow(self) -> AsyncIterator[State | News | Left]:
        """First the state, then everything that happens, for good."""
