"""Keeps one backend's key in etcd: the part that `weldr.register` and `weldr register` share.

States:

| state       | meaning                                       | leaves it                                     |
|-------------|-----------------------------------------------|-----------------------------------------------|
| registering | no key yet, or it went with its lease         | lease granted and key put -> registered       |
| registered  | the key is in etcd under a lease that lives   | lease lost -> registering; put by another ->  |
|             |                                               | taken; `leave` -> leaving                     |
| taken       | another has put the same key; ours is gone    | the key is free -> registered; `leave` ->     |
|             |                                               | leaving                                       |
| leaving     | marked as draining, requests in flight finish | all idle, or the limit -> left                |
| left        | the key is deleted and the lease revoked      |                                               |

The first registration takes the key, whoever has it: so a rolling restart under the same id works. After that a
key that is under another's lease is never touched: not when our lease is lost, nor when we leave. A key that
somebody deleted is put again.

Leaving goes in the order draining mark, key, lease, so that a watcher can tell *left* (the lease still lives
when the key goes) from *expired*.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from enum import StrEnum

import msgspec

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError
from weldr.etcd.follow import Change, Follower, Snapshot
from weldr.etcd.lease import LeaseKeeper
from weldr.etcd.operations import Compare, Delete, Put
from weldr.model.keys import KeySpace, Kind
from weldr.model.values import Instance

logger = logging.getLogger(__name__)

_LEAVE_TIMEOUT_S = 2.0
_RETRY_PAUSE_S = 1.0


class RegistrationState(StrEnum):
    """See the module's table."""

    REGISTERING = "registering"
    REGISTERED = "registered"
    TAKEN = "taken"
    LEAVING = "leaving"
    LEFT = "left"


class BackendValue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of a backend's key, as the catalog reads it."""

    url: str
    weight: int = 1
    drain: bool = False
    zone: str = ""
    meta: dict[str, str] = {}


class Registrar:
    """Registers on `start` and again whenever the lease was lost, until `leave`."""

    def __init__(
        self,
        client: EtcdClient,
        keys: KeySpace,
        service: str,
        backend_id: str,
        value: BackendValue,
        ttl_s: int,
        on_change: Callable[[RegistrationState, str], None],
    ) -> None:
        """`on_change` is called with each new state and a few words on why."""
        self.state = RegistrationState.REGISTERING
        self.key = keys.key(Kind.BACKEND, service, backend_id)
        self._client = client
        self._keys = keys
        self._reported_name = "/".join(keys.parse(self.key).names)
        self._value = value
        self._on_change = on_change
        self._registered = asyncio.Event()
        self._own_lease = 0
        """The last lease that the key was put under by us; 0 before the first time."""
        self._watching: asyncio.Task[None] | None = None
        self._lease = LeaseKeeper(client, ttl_s, on_granted=self._put, on_lost=self._lost, name="registration")

    async def start(self) -> None:
        """Begin to register; returns at once."""
        await self._lease.start()

    async def registered(self) -> None:
        """Wait until the key is in etcd."""
        await self._registered.wait()

    async def leave(self, limit_s: float, *, wait_until_idle: bool = True) -> None:
        """Leave the rotation, at the latest after `limit_s`; the lease does the rest if etcd is away."""
        if self.state is RegistrationState.LEFT:
            return
        self._set_state(RegistrationState.LEAVING, "asked to leave")
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        lease_id = self._lease.lease_id if self._own_lease else None
        try:
            async with asyncio.timeout(limit_s):
                if lease_id is not None and wait_until_idle and limit_s > 0:
                    await self._drain(lease_id)
        except TimeoutError:
            logger.warning("left with requests still in flight", extra={"limit_s": limit_s})
        except EtcdError as error:
            logger.warning("the draining mark could not be set", extra={"reason": str(error)})
        reason = "deregistered" if self._own_lease else "it had not been registered"
        revoke = True
        try:
            if lease_id is not None:
                ours = Compare.lease(self.key, "==", lease_id)
                await self._client.transaction([ours], [Delete(self.key)], [], timeout_s=_LEAVE_TIMEOUT_S)
        except EtcdError as error:
            reason = f"etcd did not take the deletion, the lease will end the registration: {error}"
            # Neither would it take that, and nobody should wait for it twice.
            revoke = False
        await self._lease.close(revoke=revoke)
        self._set_state(RegistrationState.LEFT, reason)

    async def _put(self, lease_id: int) -> None:
        """Called with each new lease."""
        if self._own_lease:
            await self._put_if_free(lease_id)
            return
        await self._client.put(self.key, msgspec.json.encode(self._value), lease=lease_id)
        self._is_ours(lease_id)
        self._watching = asyncio.create_task(self._watch_key(), name="own-key")

    async def _put_if_free(self, lease_id: int) -> None:
        put = [Put(self.key, msgspec.json.encode(self._value), lease=lease_id)]
        absent = Compare.create_revision(self.key, "==", 0)
        ours = Compare.lease(self.key, "==", self._own_lease)
        for free in (absent, ours):
            if (await self._client.transaction([free], put, [])).succeeded:
                self._is_ours(lease_id)
                return
        self._is_taken()

    def _is_ours(self, lease_id: int) -> None:
        self._own_lease = lease_id
        if self.state in (RegistrationState.REGISTERING, RegistrationState.TAKEN):
            self._set_state(RegistrationState.REGISTERED, f"the key is {self.key.decode(errors='replace')}")
            self._registered.set()

    def _is_taken(self) -> None:
        if self.state in (RegistrationState.REGISTERING, RegistrationState.REGISTERED):
            self._registered.clear()
            self._set_state(RegistrationState.TAKEN, "another has registered under the same service and id")

    async def _watch_key(self) -> None:
        """See to it that the key is what we believe: ours, or another's."""
        follower = Follower(self._client, self.key)
        async with contextlib.aclosing(follower.batches()) as batches:
            async for changes in batches:
                for change in changes:
                    for lease in self._leases_of_key(change):
                        await self._key_is_under(lease)

    def _leases_of_key(self, change: Change) -> list[int | None]:
        """What the key was put under, one after the other; `None` where it was deleted."""
        # The watch is for a prefix: other keys may begin with ours.
        if isinstance(change, Snapshot):
            return [pair.lease for pair in change.key_values if pair.key == self.key] or [None]
        events = [event for event in change.events if event.key_value.key == self.key]
        return [None if event.deleted else event.key_value.lease for event in events]

    async def _key_is_under(self, lease: int | None) -> None:
        """The key was put under `lease`, or deleted. What the watch tells may be the past by now."""
        mine = self._lease.lease_id
        while mine is not None and lease != mine:
            try:
                await self._put_if_free(mine)
                return
            except EtcdError as error:
                logger.debug("the key cannot be put again yet", extra={"reason": str(error)})
                await asyncio.sleep(_RETRY_PAUSE_S)
                mine = self._lease.lease_id

    def _lost(self, reason: str) -> None:
        if self.state is RegistrationState.REGISTERED:
            self._registered.clear()
            self._set_state(RegistrationState.REGISTERING, reason)

    async def _drain(self, lease_id: int) -> None:
        """Set the draining mark and wait until every instance has applied it and has nothing in flight."""
        self._value = msgspec.structs.replace(self._value, drain=True)
        marked = await self._client.transaction(
            [Compare.lease(self.key, "==", lease_id)],
            [Put(self.key, msgspec.json.encode(self._value), lease=lease_id)],
            [],
            timeout_s=_LEAVE_TIMEOUT_S,
        )
        if not marked.succeeded:
            return  # the key is not ours any more: nothing of ours is in rotation
        await self._wait_until_idle(marked.header.revision)

    async def _wait_until_idle(self, revision: int) -> None:
        busy: dict[bytes, bool] = {}
        follower = Follower(self._client, self._keys.of_kind(Kind.INSTANCE))
        async with contextlib.aclosing(follower.batches()) as batches:
            async for changes in batches:
                for change in changes:
                    self._note_instances(busy, change, revision)
                if not any(busy.values()):
                    return

    def _note_instances(self, busy: dict[bytes, bool], change: Change, revision: int) -> None:
        if isinstance(change, Snapshot):
            busy.clear()
            busy.update({pair.key: self._is_busy(pair.value, revision) for pair in change.key_values})
            return
        for event in change.events:
            if event.deleted:
                busy.pop(event.key_value.key, None)
            else:
                busy[event.key_value.key] = self._is_busy(event.key_value.value, revision)

    def _is_busy(self, value: bytes, revision: int) -> bool:
        try:
            instance = msgspec.json.decode(value, type=Instance)
        except msgspec.MsgspecError:
            return False  # no instance of ours wrote it: it cannot say when it is idle
        return instance.applied < revision or instance.draining.get(self._reported_name, 0) > 0

    def _set_state(self, state: RegistrationState, reason: str) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state, reason)
