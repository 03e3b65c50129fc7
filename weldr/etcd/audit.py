"""Compares what a follower has handed on with what etcd has: keys, revisions and values, by their fingerprints.

Revisions alone would not do: an etcd that was restored and written to since may have the same key at the same
revision with another value. Values alone would not do either: they may be large, and are not kept here.

The comparison is at one revision, the last that was handed on, so a busy prefix cannot make it fail. Below a
quiet prefix that revision may be compacted; then the current state is read. If that differs, the watch is given
a few seconds to deliver the difference, and if it does, the audit begins again with the newer revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdCompactedError
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


async def audit(
    client: EtcdClient, prefix: bytes, noted: Callable[[], tuple[int, Mapping[bytes, int]]]
) -> Differences | None:
    """`None` if all is well. `noted` gives the last revision handed on and the fingerprints of the keys then.

    Raises `EtcdError` if etcd cannot be read.
    """
    while True:
        revision, by_key = noted()
        # The follower goes on meanwhile.
        expected = dict(by_key)
        try:
            return _differences(expected, *await _read(client, prefix, revision))
        except EtcdCompactedError:
            pass
        found = _differences(expected, *await _read(client, prefix, 0))
        if found is None:
            return None
        await asyncio.sleep(_DELIVERY_LIMIT_S)
        if noted()[0] == revision:
            return found


async def _read(client: EtcdClient, prefix: bytes, revision: int) -> tuple[int, dict[bytes, int]]:
    found: dict[bytes, int] = {}
    async for page in client.pages(prefix, revision=revision):
        revision = page.revision
        found.update((pair.key, fingerprint(pair)) for pair in page.key_values)
    return revision, found


def _differences(
    expected: Mapping[bytes, int], revision: int, found: Mapping[bytes, int]
) -> Differences | None:
    # Pairs, so that a key on one side only and a key with another fingerprint are found alike.
    keys = sorted({key for key, _ in expected.items() ^ found.items()})
    return Differences(revision, tuple(keys[:_SHOWN_KEYS]), len(keys)) if keys else None
