"""Changes of keys, before anybody makes them: what differs, and in which order it may be written.

etcd takes 128 operations in a transaction. A larger change is staged so that no request sees half of it: what
no request can see yet goes first, then at one instant all that can be seen, then the removal of what cannot be
seen any more. Whoever dies in between leaves nothing half in force. If what can be seen is itself too large for
one transaction, there is no such order, and the change is refused.

What can be seen is judged from the safe side: a backend or service is unseen only if no text anywhere in the
values of routes, services, settings and the rest is its service's name, and it is not the service `default`.
While one of these values cannot be understood, its last good one is in force, which is not known here: then
nothing is unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from weldr.model.decode import DECODED, Fault, decode
from weldr.model.documents import document_of, same
from weldr.model.keys import REPORTED, KeyName, KeySpace, Kind
from weldr.model.traffic import DEFAULT_SERVICE

MAX_OPERATIONS = 128
"""In one transaction, by etcd's default `--max-txn-ops`."""
MAX_TRANSACTION_BYTES = 1024 * 1024
"""Of keys and values; etcd takes 1.5 MiB of request by default."""

_OF_A_SERVICE = frozenset({Kind.BACKEND, Kind.OVERRIDE, Kind.SERVICE})
_NAMING_NO_SERVICE = REPORTED | {Kind.BACKEND, Kind.OVERRIDE, Kind.INSTANCE_OVERRIDE, Kind.CERT}


class Action(StrEnum):
    """What becomes of a key."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Edit:
    """One key, as it is to be. `value` is `None` for one that is to go."""

    name: KeyName
    value: bytes | None
    expected: int | None = None
    """The modification revision that it must have, 0 if it must not exist; `None` if that does not matter."""

    def size_bytes(self, keys: KeySpace) -> int:
        """What it takes in a transaction, roughly."""
        return len(keys.key(self.name.kind, *self.name.names)) + len(self.value or b"") + 64


@dataclass(frozen=True, slots=True)
class Held:
    """A key as it is."""

    value: bytes
    mod_revision: int
    lease: int = 0


class TooLargeError(Exception):
    """A change that can be seen, and is too large for one transaction."""

    def __init__(self, count: int, size_bytes: int) -> None:
        self.count = count
        self.size_bytes = size_bytes
        super().__init__(
            f"{count} keys ({size_bytes} bytes) would have to change at one instant, but etcd takes"
            f" {MAX_OPERATIONS} keys and {MAX_TRANSACTION_BYTES} bytes: make it in several changes"
        )


def action(held: Held | None, value: bytes | None) -> Action:
    """What writing `value` (`None`: deleting) would do to a key."""
    if value is None:
        return Action.KEEP if held is None else Action.DELETE
    if held is None:
        return Action.CREATE
    return Action.KEEP if same(held.value, value) else Action.UPDATE


def difference(
    held: Mapping[KeyName, Held], wanted: Mapping[KeyName, bytes], prune: Iterable[Kind] = ()
) -> list[Edit]:
    """What turns `held` into `wanted`, each edit bound to the revision that it was seen at.

    What is not wanted stays, but for keys of the kinds in `prune`; and of these, whatever is under a lease.
    """
    edits = []
    for name, value in wanted.items():
        before = held.get(name)
        if action(before, value) is not Action.KEEP:
            edits.append(Edit(name, value, before.mod_revision if before else 0))
    kinds = frozenset(prune)
    for name, before in held.items():
        if name.kind in kinds and name not in wanted and not before.lease:
            edits.append(Edit(name, None, before.mod_revision))
    return edits


def stages(held: Mapping[KeyName, Held], edits: Sequence[Edit], keys: KeySpace) -> list[list[Edit]]:
    """The edits in transactions, in their order.

    Raises `TooLargeError`.
    """
    if _fits(edits, keys):
        return [list(edits)] if edits else []
    after = dict(held)
    for edit in edits:
        if edit.value is None:
            after.pop(edit.name, None)
        else:
            after[edit.name] = Held(edit.value, 0)
    seen_before, seen_after = _seen_services(held), _seen_services(after)
    first: list[Edit] = []
    instant: list[Edit] = []
    last: list[Edit] = []
    for edit in edits:
        if edit.value is not None and _is_unseen(edit.name, seen_before):
            first.append(edit)
        elif edit.value is None and _is_unseen(edit.name, seen_after):
            last.append(edit)
        else:
            instant.append(edit)
    if not _fits(instant, keys):
        raise TooLargeError(len(instant), _size(instant, keys))
    return [*_chunks(first, keys), *([instant] if instant else []), *_chunks(last, keys)]


def _is_unseen(name: KeyName, seen: set[str] | None) -> bool:
    return seen is not None and name.kind in _OF_A_SERVICE and name.names[0] not in seen


def _seen_services(held: Mapping[KeyName, Held]) -> set[str] | None:
    """Every text in the values that requests are routed by: more than the services' names, but all of these.

    `None` if that cannot be known.
    """
    texts = {DEFAULT_SERVICE}
    for name, key in held.items():
        if name.kind in _NAMING_NO_SERVICE:
            continue
        if name.kind in DECODED and isinstance(decode(name.kind, key.value), Fault):
            return None
        _collect_texts(document_of(key.value), texts)
    return texts


def _collect_texts(document: Any, texts: set[str]) -> None:
    if isinstance(document, str):
        texts.add(document)
    elif isinstance(document, dict):
        for key, value in document.items():
            texts.add(key)
            _collect_texts(value, texts)
    elif isinstance(document, list):
        for value in document:
            _collect_texts(value, texts)


def _size(edits: Sequence[Edit], keys: KeySpace) -> int:
    return sum(edit.size_bytes(keys) for edit in edits)


def _fits(edits: Sequence[Edit], keys: KeySpace) -> bool:
    return len(edits) <= MAX_OPERATIONS and _size(edits, keys) <= MAX_TRANSACTION_BYTES


def _chunks(edits: Sequence[Edit], keys: KeySpace) -> list[list[Edit]]:
    chunks: list[list[Edit]] = []
    for edit in edits:
        if chunks and _fits([*chunks[-1], edit], keys):
            chunks[-1].append(edit)
        else:
            chunks.append([edit])
    return chunks
