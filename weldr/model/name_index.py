"""Sets of names by key, which copies share until they change one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Set
from typing import Generic, TypeVar

Key = TypeVar("Key")
_NONE: frozenset[str] = frozenset()


class NameIndex(Generic[Key]):
    """No key without names. Only the last copy may be changed, and only by whoever made it."""

    __slots__ = ("_own", "_sets")

    def __init__(self) -> None:
        self._sets: dict[Key, set[str]] = {}
        self._own: set[Key] = set()
        """The sets that no copy before this one has: to copy one for each of its names would be quadratic."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameIndex) and self._sets == other._sets

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> NameIndex[Key]:
        """One to change."""
        copied = NameIndex[Key]()
        copied._sets = dict(self._sets)
        return copied

    def __iter__(self) -> Iterator[Key]:
        return iter(self._sets)

    def keys(self) -> KeysView[Key]:
        """All that have names."""
        return self._sets.keys()

    def names(self, key: Key) -> Set[str]:
        """Those of one key; not to be kept beyond the next change."""
        return self._sets.get(key, _NONE)

    def add(self, key: Key, name: str) -> None:
        """Note a name."""
        self._owned(key).add(name)

    def discard(self, key: Key, name: str) -> None:
        """Forget a name."""
        held = self._owned(key)
        held.discard(name)
        if not held:
            del self._sets[key]
            self._own.discard(key)

    def _owned(self, key: Key) -> set[str]:
        if key not in self._own:
            self._sets[key] = set(self._sets.get(key, _NONE))
            self._own.add(key)
        return self._sets[key]
