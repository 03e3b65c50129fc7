"""Writes edits of keys in one transaction, each bound to what was read before.

The keys are read, the caller decides from what they hold, and the transaction compares that each still has the
revision that was read. If one has changed meanwhile all is read and decided again, so a decision (a merge, a
condition, the lease that a key keeps) never rests on what is no longer true.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from weldr.etcd.answers import RangeResult
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdLeaseNotFoundError
from weldr.etcd.operations import Compare, Delete, Operation, Put, Read
from weldr.model.edits import Action, Edit, Held, action
from weldr.model.keys import KeyName, KeySpace

_ATTEMPTS = 30
_LONGEST_PAUSE_S = 0.05

Decide = Callable[[Mapping[KeyName, Held]], Sequence[Edit]]


class EditConflictError(Exception):
    """A key does not have the revision that an edit expects."""

    def __init__(self, name: KeyName, expected: int, found: int) -> None:
        self.name = name
        self.expected = expected
        self.found = found
        key = "/".join([name.kind, *name.names])
        wanted = f"is not at revision {expected} any more" if expected else "exists already"
        now = f"it is at revision {found}" if found else "it does not exist"
        super().__init__(f"{key} {wanted}: {now}")


class EditContentionError(Exception):
    """Others changed the keys in every attempt. Nothing was written."""

    def __init__(self) -> None:
        super().__init__(f"the keys changed under each of {_ATTEMPTS} attempts: nothing was written")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became, or would become, of a key. A revision is 0 where there is no key."""

    name: KeyName
    action: Action
    old_revision: int
    new_revision: int


@dataclass(frozen=True, slots=True)
class Committed:
    """etcd's `revision` of the transaction, or of the read if there was nothing to write."""

    revision: int
    outcomes: tuple[Outcome, ...]

    @property
    def wrote(self) -> bool:
        return any(outcome.action is not Action.KEEP for outcome in self.outcomes)


async def commit(
    client: EtcdClient, keys: KeySpace, names: Sequence[KeyName], decide: Decide, *, dry_run: bool = False
) -> Committed:
    """Have `decide` make edits of these keys from what they hold, and write them at one instant.

    A key that is under a lease stays under it. Whatever `decide` raises is passed on.

    Raises `EditConflictError`, `EditContentionError` and `EtcdError`.
    """
    raw = {name: keys.key(name.kind, *name.names) for name in names}
    for _ in range(_ATTEMPTS):
        revision, held = await _read(client, raw)
        edits = decide(held)
        for edit in edits:
            _check(edit, held)
        planned = [(edit, action(held.get(edit.name), edit.value)) for edit in edits]
        if dry_run or all(what is Action.KEEP for _, what in planned):
            return Committed(revision, tuple(_outcome(edit, what, held, None) for edit, what in planned))
        compares = [_unchanged(raw[name], held.get(name)) for name in raw]
        operations = [_operation(raw, held, edit) for edit, what in planned if what is not Action.KEEP]
        try:
            result = await client.transaction(compares, operations)
        except EtcdLeaseNotFoundError:
            continue
        if result.succeeded:
            written = result.header.revision
            return Committed(written, tuple(_outcome(edit, what, held, written) for edit, what in planned))
        await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE_S))
    raise EditContentionError


async def _read(client: EtcdClient, raw: Mapping[KeyName, bytes]) -> tuple[int, dict[KeyName, Held]]:
    result = await client.transaction([], [Read(key) for key in raw.values()])
    held = {}
    for name, answer in zip(raw, result.responses, strict=True):
        assert isinstance(answer, RangeResult)
        for pair in answer.key_values:
            held[name] = Held(pair.value, pair.mod_revision, pair.lease)
    return result.header.revision, held


def _check(edit: Edit, held: Mapping[KeyName, Held]) -> None:
    before = held.get(edit.name)
    found = before.mod_revision if before else 0
    if edit.expected is not None and edit.expected != found:
        raise EditConflictError(edit.name, edit.expected, found)


def _unchanged(key: bytes, held: Held | None) -> Compare:
    return Compare.mod_revision(key, "==", held.mod_revision if held else 0)


def _operation(raw: Mapping[KeyName, bytes], held: Mapping[KeyName, Held], edit: Edit) -> Operation:
    key = raw[edit.name]
    if edit.value is None:
        return Delete(key)
    before = held.get(edit.name)
    return Put(key, edit.value, lease=before.lease if before else 0)


def _outcome(edit: Edit, what: Action, held: Mapping[KeyName, Held], written: int | None) -> Outcome:
    before = held.get(edit.name)
    old = before.mod_revision if before else 0
    if what is Action.KEEP:
        new = old
    elif edit.value is None:
        new = 0
    else:
        new = written or 0
    return Outcome(edit.name, what, old, new)
