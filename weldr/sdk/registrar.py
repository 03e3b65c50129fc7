"""Keeps one backend's key in etcd: the part that `weldr.register` and `weldr register` share.

States:

| state       | meaning                                       | leaves it                                     |
|-------------|-----------------------------------------------|-----------------------------------------------|
| registering | no key yet, or it went with its lease         | lease granted and key put -> registered       |
| registered  | the key is in etcd under a lease that lives   | lease lost -> registering; `leave` -> leaving |
| leaving     | marked as draining, requests in flight finish | all idle, or the limit -> left                |
| left        | the key is deleted and the lease revoked      |                                               |

Leaving goes in the order draining mark, key, lease, so that a watcher can tell *left* (the lease still lives
when the key goes) from *expired*. Mark and deletion are made only while the key is under our own lease: a
successor that took over the key in a rolling restart is never touched.
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


class RegistrationState(StrEnum):
    """See the module's table."""

    REGISTERING = "registering"
    REGISTERED = "registered"
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
        self._reported_name = f"{service}/{backend_id}"
        self._value = value
        self._on_change = on_change
        self._registered = asyncio.Event()
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
        lease_id = self._lease.lease_id
        try:
            async with asyncio.timeout(limit_s):
                if lease_id is not None and wait_until_idle and limit_s > 0:
                    await self._drain(lease_id)
        except TimeoutError:
            logger.warning("left with requests still in flight", extra={"limit_s": limit_s})
        except EtcdError as error:
            logger.warning("the draining mark could not be set", extra={"reason": str(error)})
        reason = "deregistered"
        try:
            if lease_id is not None:
                await self._client.transaction(
                    [Compare.lease(self.key, "==", lease_id)], [Delete(self.key)], []
                )
        except EtcdError as error:
            reason = f"etcd did not take the deletion, the lease will end the registration: {error}"
        await self._lease.close(revoke=True)
        self._set_state(RegistrationState.LEFT, reason)

    async def _put(self, lease_id: int) -> None:
        await self._client.put(self.key, msgspec.json.encode(self._value), lease=lease_id)
        if self.state is RegistrationState.REGISTERING:
            self._set_state(RegistrationState.REGISTERED, f"the key is {self.key.decode(errors='replace')}")
            self._registered.set()

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
