"""Why a backend's key went: what a watcher cannot see in the event itself.

Who leaves in good order marks itself as draining, deletes its key, and only then ends its lease. So a key that
went with its lease, without that mark, expired; and one whose lease still lives was removed by somebody.
"""

from __future__ import annotations

from enum import StrEnum

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdLeaseNotFoundError
from weldr.model.decode import decode
from weldr.model.events import KeyValue
from weldr.model.keys import Kind
from weldr.model.values import Backend

_LIMIT_S = 2.0


class Departure(StrEnum):
    """How a backend left."""

    DRAINED = "drained"
    """It had been marked as draining before."""
    EXPIRED = "expired"
    """Nobody kept its lease alive."""
    REMOVED = "removed"
    """Its key was deleted while it lived."""


async def departure(client: EtcdClient, before: KeyValue) -> Departure:
    """How a backend left that had this key.

    Raises `EtcdError`.
    """
    value = decode(Kind.BACKEND, before.value)
    if isinstance(value, Backend) and value.draining:
        return Departure.DRAINED
    if not before.lease:
        return Departure.REMOVED
    try:
        await client.time_to_live(before.lease, timeout_s=_LIMIT_S)
    except EtcdLeaseNotFoundError:
        return Departure.EXPIRED
    return Departure.REMOVED
