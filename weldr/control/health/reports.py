"""Writes `health/<instance>/<service>/<id>`: the last change of a backend's health that this instance saw.

On change only, and never faster than etcd should be written to: what changes often is written as it is when its
turn comes. The keys are under the instance's lease, and are put again when that is another. There are at most
`MAX_KEYS`; beyond that the oldest changes go. A backend whose names are too long for etcd has none.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable

import msgspec

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError, EtcdLeaseNotFoundError, EtcdUnavailableError
from weldr.etcd.operations import Delete, Operation, Put
from weldr.model.health import HealthChange

logger = logging.getLogger(__name__)

MAX_KEYS = 2000
_KEYS_AT_A_TIME = 100
_KEY_BYTES_AT_A_TIME = 1 << 19
"""etcd takes requests of 1.5 MiB by default. A value is small, its key is as long as others have made it."""
_PAUSE_S = 1.0


class HealthReports:
    """Owner of the keys. `run` writes them."""

    def __init__(
        self, client: EtcdClient, lease_id: Callable[[], int | None], on_written: Callable[[int], None]
    ) -> None:
        """`lease_id` gives the instance's lease while it lives; `on_written` is told the revision of each
        write."""
        self._client = client
        self._lease_id = lease_id
        self._on_written = on_written
        self._wanted: dict[bytes, HealthChange] = {}
        self._written: dict[bytes, HealthChange | None] = {}
        """`None` if it is not certain what is, since etcd has not answered."""
        self._written_lease: int | None = None
        self._stale: dict[bytes, None] = {}
        """Keys of which what is wanted may differ from what is written."""
        self._wake = asyncio.Event()
        self._failure: str | None = None

    def report(self, key: bytes, change: HealthChange) -> None:
        """This is the last change now."""
        if len(key) > _KEY_BYTES_AT_A_TIME:
            return
        self._wanted.pop(key, None)
        self._wanted[key] = change
        self._stale[key] = None
        if len(self._wanted) > MAX_KEYS:
            self.forget(next(iter(self._wanted)))
        self._wake.set()

    def forget(self, key: bytes) -> None:
        """There is no such backend any more."""
        if self._wanted.pop(key, None) is None:
            return
        if key in self._written:
            self._stale[key] = None
            self._wake.set()
        else:
            self._stale.pop(key, None)

    def lease_granted(self) -> None:
        """The instance has another lease: what was under the last one is gone, or will be."""
        self._wake.set()

    async def run(self) -> None:
        """Write for good."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            lease_id = self._lease_id()
            if lease_id is None:
                continue  # `lease_granted` comes
            if lease_id != self._written_lease:
                self._written_lease = lease_id
                self._written.clear()
                self._stale = dict.fromkeys(self._wanted)
            try:
                await self._write(lease_id)
            except EtcdError as error:
                self._tell_failure(error)
                self._wake.set()
            await asyncio.sleep(_PAUSE_S)

    async def _write(self, lease_id: int) -> None:
        changes = {key: self._wanted.get(key) for key in self._next_keys()}
        operations: list[Operation] = []
        for key, change in changes.items():
            if change is None:
                if key in self._written:
                    operations.append(Delete(key))
            elif change != self._written.get(key):
                operations.append(Put(key, msgspec.json.encode(change), lease_id))
                self._written[key] = None
        if operations:
            try:
                result = await self._client.transaction([], operations)
            except EtcdLeaseNotFoundError:
                return  # `lease_granted` comes
            if result.wrote:
                self._on_written(result.header.revision)
        for key, change in changes.items():
            if change is None:
                self._written.pop(key, None)
            else:
                self._written[key] = change
            if self._wanted.get(key) == change:
                self._stale.pop(key, None)
            else:
                self._stale[key] = None
        if self._stale:
            self._wake.set()

    def _next_keys(self) -> list[bytes]:
        keys: list[bytes] = []
        size = 0
        for key in itertools.islice(self._stale, _KEYS_AT_A_TIME):
            size += len(key)
            if size > _KEY_BYTES_AT_A_TIME:
                break
            keys.append(key)
        return keys

    def _tell_failure(self, error: EtcdError) -> None:
        # That etcd is away is said by the client.
        reason = str(error)
        if not isinstance(error, EtcdUnavailableError) and reason != self._failure:
            self._failure = reason
            logger.error("etcd refuses the keys of health", extra={"reason": reason})
