"""Compares what a follower has handed on with what etcd has: keys, revisions and values, by their fingerprints.

Revisions alone would not do: an etcd that was restored and written to since may have the same key at the same
revision with another value. Values alone would not do either: they may be large, and are not kept here.

The comparison is at one revision, the last that was handed on, so a busy prefix cannot make it fail. Below a
quiet prefix that revision may be compacted; then the current state is read. If that differs, the watch is given
a few seconds to deliver the difference, and if it does, the audit begins again with the newer revision. Nothing
is judged while the consumer is so slow that the watch could deliver nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdCompactedError, EtcdOtherClusterError
from weldr.model.events import KeyValue

_DELIVERY_LIMIT_S = 3.0
_SHOWN_KEYS = 10


def fingerprint(pair: KeyValue) -> int:
    """A number that stands, in this process, for all that etcd says of a key."""
    return hash(pair)


@dataclass(frozen=True, slots=True)
class Differences:
    """`count` keys differ at `revision`; `keys` are the first of them."""

    revision: int
    keys: tuple[bytes, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Noted:
    """The cluster, the last revision handed on, and the fingerprints of the keys as they were then."""

    cluster_id: int
    revision: int
    fingerprints: Mapping[bytes, int]


async def audit(
    client: EtcdClient, prefix: bytes, note: Callable[[], Noted], held_back: Callable[[], bool]
) -> Differences | None:
    """`None` if all is well. `held_back` tells whether changes wait for the consumer.

    Raises `EtcdFutureRevisionError` or `EtcdOtherClusterError` if this is not the etcd that was followed, and
    any other `EtcdError` if it cannot be read.
    """
    while True:
        noted = note()
        # The follower goes on meanwhile.
        expected = dict(noted.fingerprints)
        try:
            return _differences(expected, *await _read(client, prefix, noted.cluster_id, noted.revision))
        except EtcdCompactedError:
            pass
        found = _differences(expected, *await _read(client, prefix, noted.cluster_id, 0))
        if found is None:
            return None
        judged = not held_back()
        await asyncio.sleep(_DELIVERY_LIMIT_S)
        if judged and not held_back() and note().revision == noted.revision:
            return found
        # Not read again and again for a consumer that stands still.
        while held_back():  # noqa: ASYNC110
            await asyncio.sleep(_DELIVERY_LIMIT_S)


async def _read(
    client: EtcdClient, prefix: bytes, cluster_id: int, revision: int
) -> tuple[int, dict[bytes, int]]:
    found: dict[bytes, int] = {}
    async for page in client.pages(prefix, revision=revision):
        if page.header.cluster_id != cluster_id:
            raise EtcdOtherClusterError
        revision = page.revision
        found.update((pair.key, fingerprint(pair)) for pair in page.key_values)
    return revision, found


def _differences(
    expected: Mapping[bytes, int], revision: int, found: Mapping[bytes, int]
) -> Differences | None:
    # Pairs, so that a key on one side only and a key with another fingerprint are found alike.
    keys = sorted({key for key, _ in expected.items() ^ found.items()})
    return Differences(revision, tuple(keys[:_SHOWN_KEYS]), len(keys)) if keys else None
