"""What etcd says of keys, as plain values: a read and a change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as a read returns it. Revisions are etcd's; `lease` is 0 for a key without one."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key. For a deletion `key_value.value` is empty and its creation revision 0."""

    key_value: KeyValue
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """All changes that one etcd transaction made under the prefix."""

    revision: int
    events: tuple[Event, ...]
