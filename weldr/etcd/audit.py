"""Compares what a follower has handed on with what etcd has.

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

_DELIVERY_LIMIT_S = 3.0
_SHOWN_KEYS = 10


@dataclass(frozen=True, slots=True)
class Differences:
    """`count` keys differ at `revision`; `keys` are the first of them."""

    revision: int
    keys: tuple[bytes, ...]
    count: int


async def audit(
    client: EtcdClient, prefix: bytes, noted: Callable[[], tuple[int, Mapping[bytes, int]]]
) -> Differences | None:
    """`None` if all is well. `noted` gives the last revision handed on and the keys with their revisions then.

    Raises `EtcdError` if etcd cannot be read.
    """
    while True:
        revision, by_key = noted()
        # The follower goes on meanwhile.
        expected = dict(by_key)
        try:
            read = await client.read_prefix(prefix, revision=revision, keys_only=True)
        except EtcdCompactedError:
            pass
        else:
            return _differences(revision, expected, {pair.key: pair.mod_revision for pair in read.key_values})
        read = await client.read_prefix(prefix, keys_only=True)
        found = _differences(read.revision, expected, {pair.key: pair.mod_revision for pair in read.key_values})
        if found is None:
            return None
        await asyncio.sleep(_DELIVERY_LIMIT_S)
        if noted()[0] == revision:
            return found


def _differences(
    revision: int, expected: Mapping[bytes, int], found: Mapping[bytes, int]
) -> Differences | None:
    # Pairs, so that a key on one side only and a key of another revision are found alike.
    keys = sorted({key for key, _ in expected.items() ^ found.items()})
    return Differences(revision, tuple(keys[:_SHOWN_KEYS]), len(keys)) if keys else None
