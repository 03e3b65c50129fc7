"""The past of a prefix: every revision from the oldest that etcd still has up to now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdCompactedError, EtcdUnavailableError
from weldr.etcd.watch import watch
from weldr.model.events import KeyValue, Revision
from weldr.model.keys import KeyName, KeySpace
from weldr.model.past import Past, PastReader

_LIMIT_S = 30.0
_SESSION_TIMEOUT_S = 5.0
# When all that exists has been told there may still be keys that came and went since; etcd sends these at once.
_SILENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first revision that etcd has, 0 for its very first, and what it held."""

    revision: int
    held: Mapping[bytes, KeyValue]


async def read_past(client: EtcdClient, keys: KeySpace, limit: int, only: KeyName | None = None) -> Past:
    """The last `limit` changes of configuration (of one key) that etcd remembers.

    Raises `EtcdError`, of which `EtcdCompactedError` if etcd compacts while this reads.
    """
    try:
        return await _read(client, keys, 0, limit, only)
    except EtcdCompactedError as error:
        return await _read(client, keys, error.compact_revision, limit, only)


async def _read(client: EtcdClient, keys: KeySpace, first: int, limit: int, only: KeyName | None) -> Past:
    reader: PastReader | None = None
    async with contextlib.aclosing(_since(client, keys.prefix_bytes, first)) as steps:
        async for step in steps:
            if isinstance(step, _Beginning):
                reader = PastReader(keys, step.revision, step.held, limit, only)
            elif reader is not None:
                reader.add(step)
    assert reader is not None
    return reader.past


async def _since(client: EtcdClient, prefix: bytes, first: int) -> AsyncGenerator[_Beginning | Revision, None]:
    """The history from a revision on that etcd has, 0 for its beginning."""
    now = await client.read_prefix(prefix, keys_only=True)
    held: dict[bytes, KeyValue] = {}
    if first:
        held = {pair.key: pair for pair in (await client.read_prefix(prefix, revision=first)).key_values}
    yield _Beginning(first, held)
    reached = {key: pair.mod_revision for key, pair in held.items()}
    wanted = {pair.key: pair.mod_revision for pair in now.key_values}
    last = first
    session = await client.connection.session(_SESSION_TIMEOUT_S)
    async with contextlib.aclosing(watch(session, prefix, first + 1)) as batches:
        while last < now.revision:
            complete = reached == wanted
            try:
                async with asyncio.timeout(_SILENCE_S if complete else _LIMIT_S):
                    batch = await anext(batches)
            except TimeoutError:
                if complete:
                    return
                reason = "its history did not come in time"
                raise EtcdUnavailableError(reason, endpoint=str(session.endpoint)) from None
            for revision in batch:
                last = revision.revision
                _fold(reached, revision)
                yield revision


def _fold(reached: dict[bytes, int], revision: Revision) -> None:
    for event in revision.events:
        if event.deleted:
            reached.pop(event.key_value.key, None)
        else:
            reached[event.key_value.key] = event.key_value.mod_revision
