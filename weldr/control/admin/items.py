"""Keys as the API shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from weldr.etcd.commit import Committed, Outcome
from weldr.model.catalog import Problem
from weldr.model.collections import COLLECTIONS, path_of
from weldr.model.documents import shown
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace

_AT_ONCE = 200


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key in a list."""

    key: str
    """Without the prefix, as in `routes/cart`."""
    value: Any
    """Without what is secret. What is no JSON object is shown as text."""
    create_revision: int
    mod_revision: int
    lease: str | None = None
    """In hexadecimal, as etcdctl writes it."""
    problem: Problem | None = None
    """Why the value is not in force."""


class Items(msgspec.Struct, frozen=True):
    """Keys as they were at one revision."""

    revision: int
    items: list[Item]


class AllItems(msgspec.Struct, frozen=True):
    """Keys of every collection as they were at one revision."""

    revision: int
    items: list[Item]
    left_out: dict[str, int]
    """By collection, how many keys are beyond `limit`."""


class KeyOutcome(msgspec.Struct, frozen=True):
    """What became of a key. A revision is 0 where there is no key."""

    key: str
    action: str
    old_revision: int
    new_revision: int


class Written(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a write did, or with `dry_run` would do."""

    revision: int
    """etcd's revision of the write, or of the read that found nothing to write."""
    outcomes: list[KeyOutcome]
    dry_run: bool = False
    before: Any = msgspec.UNSET
    """With `dry_run`: the value as it is, `null` if there is none."""
    after: Any = msgspec.UNSET
    """With `dry_run`: the value as it would be."""
    ttl_s: int | None = None
    """Of a registration: within this time it has to be repeated."""


def item(keys: KeySpace, pair: KeyValue, problems: Mapping[bytes, Problem]) -> Item:
    """One key; it has to be of the layout."""
    name = keys.parse(pair.key)
    return Item(
        key=path_of(name),
        value=shown(COLLECTIONS[name.kind.value], pair.value),
        create_revision=pair.create_revision,
        mod_revision=pair.mod_revision,
        lease=f"{pair.lease:x}" if pair.lease else None,
        problem=problems.get(pair.key),
    )


async def encoded(
    keys: KeySpace,
    revision: int,
    pairs: Sequence[KeyValue],
    problems: Mapping[bytes, Problem],
    left_out: Mapping[str, int] | None = None,
) -> bytes:
    """`Items`, or `AllItems`, as JSON, made piece by piece: however long the list, nothing else has to wait."""
    pieces = []
    for first in range(0, len(pairs), _AT_ONCE):
        some = [item(keys, pair, problems) for pair in pairs[first : first + _AT_ONCE]]
        pieces.append(msgspec.json.encode(some)[1:-1])
        await asyncio.sleep(0)
    rest = b"" if left_out is None else b',"left_out":%b' % msgspec.json.encode(left_out)
    return b'{"revision":%d,"items":[%b]%b}' % (revision, b",".join(pieces), rest)


def outcome(found: Outcome) -> KeyOutcome:
    """What became of a key, for an answer."""
    return KeyOutcome(path_of(found.name), found.action.value, found.old_revision, found.new_revision)


def written(committed: Committed, *, dry_run: bool = False) -> Written:
    """What a write did, for an answer."""
    return Written(committed.revision, [outcome(found) for found in committed.outcomes], dry_run)


def value_for(name: KeyName, raw: bytes | None) -> Any:
    """A value as it is shown, `None` if there is none."""
    return None if raw is None else shown(COLLECTIONS[name.kind.value], raw)
