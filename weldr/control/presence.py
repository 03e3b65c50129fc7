"""Says in etcd that this instance lives, and what it has applied: the key `instances/<instance>`.

The key is written on change only. Its `applied` speaks of configuration, not of etcd's newest revision: writing
this very key makes a new one, and would have to be followed by another write for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError, EtcdUnavailableError
from weldr.etcd.lease import LeaseKeeper
from weldr.model.events import Event
from weldr.model.values import Instance

logger = logging.getLogger(__name__)

LEASE_TTL_S = 10
_LEAST_PAUSE_S = 0.05
_RETRY_PAUSE_S = 1.0


class Presence:
    """Keeps the instance's key alive and up to date while `run` runs."""

    def __init__(
        self,
        client: EtcdClient,
        key: bytes,
        describe: Callable[[], Instance],
        on_written: Callable[[int], None],
        on_lease: Callable[[], None] = lambda: None,
    ) -> None:
        """`describe` gives the value; `on_written` is told the revision of each write, and `on_lease` of each
        new lease.
        """
        self._client = client
        self._key = key
        self._describe = describe
        self._on_written = on_written
        self._on_lease = on_lease
        self._changed = asyncio.Event()
        self._written: bytes | None = None
        self._put_under: int | None = None
        """The lease that the key was put under first; what is written later is written here."""
        self._failure: str | None = None
        self._writing = asyncio.Lock()
        self._quiet = False
        self._there = asyncio.Event()
        self._lease = LeaseKeeper(
            client, LEASE_TTL_S, on_granted=self._granted, on_lost=self._lost, name="instance"
        )

    @property
    def lease_id(self) -> int | None:
        """The instance's lease, while it is alive."""
        return self._lease.lease_id

    @property
    def lease_left_s(self) -> float:
        """For how long that is certain to live without another renewal; 0 if it does not."""
        deadline_s = self._lease.deadline_s
        return 0.0 if deadline_s is None else max(0.0, deadline_s - time.monotonic())

    def changed(self) -> None:
        """What `describe` returns may be different now."""
        self._changed.set()

    async def wait_written(self) -> None:
        """Until the key has been written under the lease that there is now."""
        await self._there.wait()

    async def quieten(self) -> None:
        """Leave the key to another manager of this instance. The lease is kept until `run` is cancelled."""
        self._quiet = True
        async with self._writing:
            pass

    def speak(self) -> None:
        """Write again, whatever may have been written meanwhile."""
        self._quiet = False
        self._written = None
        self._changed.set()

    def observe(self, event: Event) -> None:
        """A change of a key, in case it is ours and not by us."""
        if event.key_value.key != self._key or self._written is None or self._quiet:
            return
        if event.deleted:
            self._written = None
            self._changed.set()
        elif event.key_value.lease != self._lease.lease_id and event.key_value.value != self._written:
            logger.error(
                "another instance uses this instance's name: give each its own with --instance",
                extra={"key": self._key.decode("utf-8", "backslashreplace")},
            )

    async def run(self) -> None:
        """Keep the lease, and write the key whenever it has changed."""
        try:
            async with self._lease:
                await self._write_changes()
        finally:
            self._there.clear()

    async def _write_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            lease_id = self._lease.lease_id
            if lease_id is None or lease_id != self._put_under:
                continue  # `_granted` writes it
            try:
                await self._write(lease_id)
            except EtcdError as error:
                # That etcd is away is said by the client; the value is written when it is back.
                self._tell_failure(error)
                self._changed.set()
                await asyncio.sleep(_RETRY_PAUSE_S)
            # A burst of revisions is reported by its last one.
            await asyncio.sleep(_LEAST_PAUSE_S)

    def _tell_failure(self, error: EtcdError) -> None:
        reason = str(error)
        if not isinstance(error, EtcdUnavailableError) and reason != self._failure:
            self._failure = reason
            logger.error("etcd refuses the instance's key", extra={"reason": reason})

    async def _granted(self, lease_id: int) -> None:
        self._written = None
        await self._write(lease_id)
        self._on_lease()
        self._put_under = lease_id
        # What changed while this was written.
        self._changed.set()

    def _lost(self, reason: str) -> None:
        self._written = None
        self._there.clear()
        logger.warning("the instance's lease was lost", extra={"reason": reason})

    async def _write(self, lease_id: int) -> None:
        # One at a time: two puts under way could arrive in the wrong order.
        async with self._writing:
            if self._quiet:
                return
            value = msgspec.json.encode(self._describe())
            if value == self._written:
                return
            header = await self._client.put(self._key, value, lease=lease_id)
            self._written = value
            self._failure = None
            self._there.set()
            self._on_written(header.revision)
