"""The past of a prefix: every revision from the oldest that etcd still has up to now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdCompactedError, EtcdUnavailableError
from weldr.etcd.watch import watch
from weldr.model.events import KeyValue, Revision

_LIMIT_S = 30.0
_SESSION_TIMEOUT_S = 5.0
# When all that exists has been told there may still be keys that came and went since; etcd sends these at once.
_SILENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class History:
    """What was held at `first_revision`, and all revisions behind it."""

    first_revision: int
    held: Mapping[bytes, KeyValue]
    revisions: tuple[Revision, ...]


async def history(client: EtcdClient, prefix: bytes) -> History:
    """All that etcd remembers.

    Raises `EtcdError`, of which `EtcdCompactedError` if etcd compacts while this reads.
    """
    try:
        return await _since(client, prefix, 0)
    except EtcdCompactedError as error:
        return await _since(client, prefix, error.compact_revision)


async def _since(client: EtcdClient, prefix: bytes, first: int) -> History:
    """The history from a revision on that etcd has, 0 for its beginning."""
    now = await client.read_prefix(prefix, keys_only=True)
    held: dict[bytes, KeyValue] = {}
    if first:
        held = {pair.key: pair for pair in (await client.read_prefix(prefix, revision=first)).key_values}
    reached = {key: pair.mod_revision for key, pair in held.items()}
    wanted = {pair.key: pair.mod_revision for pair in now.key_values}
    revisions: list[Revision] = []
    session = await client.connection.session(_SESSION_TIMEOUT_S)
    async with contextlib.aclosing(watch(session, prefix, first + 1)) as batches:
        while not revisions or revisions[-1].revision < now.revision:
            complete = reached == wanted
            try:
                batch = await asyncio.wait_for(anext(batches), _SILENCE_S if complete else _LIMIT_S)
            except TimeoutError:
                if complete:
                    break
                reason = "its history did not come in time"
                raise EtcdUnavailableError(reason, endpoint=str(session.endpoint)) from None
            for revision in batch:
                revisions.append(revision)
                _fold(reached, revision)
    return History(first, held, tuple(revisions))


def _fold(reached: dict[bytes, int], revision: Revision) -> None:
    for event in revision.events:
        if event.deleted:
            reached.pop(event.key_value.key, None)
        else:
            reached[event.key_value.key] = event.key_value.mod_revision
