"""The past of the configuration: which revisions changed it, and how. Pure.

Registrations under a lease are no configuration, nor is what instances write of themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from weldr.model.collections import COLLECTIONS
from weldr.model.events import KeyValue, Revision
from weldr.model.keys import KeyLayoutError, KeyName, KeySpace

_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PastChange:
    """A key before and after; `None` where there was none."""

    name: KeyName
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class PastStep:
    """What one revision changed."""

    revision: int
    changes: tuple[PastChange, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """The last changes, the earliest first."""

    first_revision: int
    """Nothing before it is known, since etcd has compacted it; 0 if nothing is missing."""
    omitted: int
    """Changes between that and the first of `steps`."""
    steps: tuple[PastStep, ...]


class PastReader:
    """Told every revision since the oldest, remembers the last changes: `limit`, or fewer large ones."""

    def __init__(
        self,
        keys: KeySpace,
        first_revision: int,
        held: Mapping[bytes, KeyValue],
        limit: int,
        only: KeyName | None,
    ) -> None:
        """`held` are the keys at `first_revision`; `only` one of them is of interest if it is given."""
        self._keys = keys
        self._first_revision = first_revision
        self._held = dict(held)
        self._limit = limit
        self._only = only
        self._steps: deque[PastStep] = deque()
        self._bytes = 0
        self._omitted = 0

    def add(self, revision: Revision) -> None:
        """The next revision."""
        changes = []
        for event in revision.events:
            pair = event.key_value
            before = self._held.pop(pair.key, None)
            after = None if event.deleted else pair
            if after is not None:
                self._held[pair.key] = after
            name = self._configured(before, after)
            if name is not None and self._only in (None, name):
                sides = [None if side is None else side.value for side in (before, after)]
                changes.append(PastChange(name, *sides))
        if changes:
            self._remember(PastStep(revision.revision, tuple(changes)))

    def _remember(self, step: PastStep) -> None:
        self._steps.append(step)
        self._bytes += _size_bytes(step)
        while len(self._steps) > self._limit or (self._bytes > _MOST_BYTES and len(self._steps) > 1):
            self._bytes -= _size_bytes(self._steps.popleft())
            self._omitted += 1

    @property
    def past(self) -> Past:
        """What is remembered."""
        return Past(self._first_revision, self._omitted, tuple(self._steps))

    def _configured(self, before: KeyValue | None, after: KeyValue | None) -> KeyName | None:
        """The key, if it is one that people write."""
        pair = after or before
        if pair is None or all(side is None or side.lease for side in (before, after)):
            return None
        try:
            name = self._keys.parse(pair.key)
        except KeyLayoutError:
            return None
        return name if COLLECTIONS[name.kind.value].writable else None


def _size_bytes(step: PastStep) -> int:
    return sum(len(change.before or b"") + len(change.after or b"") for change in step.changes)
