"""Keeps a lease, and gets a new one whenever it is lost, until closed.

The lease is ours until `deadline_s` and not an instant longer, whatever etcd may think: the deadline counts
from before the last successful renewal was sent, so etcd's own clock for it started later and runs out later.

Renewals go out every quarter of the time to live, and at least every 2 s. A quarter leaves room for three that
fail. The 2 s bound how long a dead connection goes unnoticed, since etcd takes no faster pings from gRPC: a
renewal that is late by more than 2 s (or a third of the time to live) makes the client move to another member.
No kind of failure is special: a renewal either succeeded before the deadline or the lease is lost.

That etcd is away is told by the connection. That it refuses the lease or its keys is told here, once for each
reason, and so is its end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from weldr.etcd.answers import LeaseGrant
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdClosedError, EtcdError, EtcdLeaseNotFoundError, EtcdUnavailableError

logger = logging.getLogger(__name__)

_LONGEST_INTERVAL_S = 2.0
_LONGEST_RENEWAL_S = 2.0
_REVOKE_TIMEOUT_S = 2.0
_SHORT_LIFE_S = 1.0


class LeaseKeeper:
    """The owner puts its keys in `on_granted`, under the id that it is given, and is told by `on_lost`.

    `on_granted` is repeated until it succeeds or the lease is lost, so it has to bear being called again. It
    runs beside the renewals. `on_lost` is called once for each lease that was granted and lost, not at `close`.
    """

    def __init__(
        self,
        client: EtcdClient,
        ttl_s: int,
        *,
        on_granted: Callable[[int], Awaitable[None]],
        on_lost: Callable[[str], None],
        name: str,
    ) -> None:
        """`name` tells one keeper's log lines from another's."""
        self._client = client
        self._ttl_s = ttl_s
        self._on_granted = on_granted
        self._on_lost = on_lost
        self._name = name
        self._lease: LeaseGrant | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: str | None = None

    @property
    def lease_id(self) -> int | None:
        """The lease, while it is alive."""
        return self._lease.id if self._lease is not None and self.alive else None

    @property
    def deadline_s(self) -> float | None:
        """Until when, by the monotonic clock, the lease is alive without another renewal."""
        return self._lease.deadline_s if self._lease is not None else None

    @property
    def alive(self) -> bool:
        """Whether the lease is certain to exist in etcd, unless somebody revoked it."""
        return self._lease is not None and time.monotonic() < self._lease.deadline_s

    async def __aenter__(self) -> LeaseKeeper:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(revoke=True)

    async def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name=f"lease-{self._name}")

    async def close(self, *, revoke: bool) -> None:
        """Stop renewing. `revoke` ends the lease and its keys now, or when it expires if etcd is away."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        lease_id, self._lease = self.lease_id, None
        if revoke and lease_id is not None:
            try:
                await self._client.revoke_lease(lease_id, timeout_s=_REVOKE_TIMEOUT_S)
            except EtcdError as error:
                logger.debug("a lease is left to expire", extra={"lease": self._name, "reason": str(error)})

    async def _run(self) -> None:
        while True:
            lease = await self._grant()
            self._lease = lease
            began_s = time.monotonic()
            logger.debug("lease granted", extra={"lease": self._name, "id": f"{lease.id:x}"})
            reason = await self._keep_or_tell_why_not(lease.id)
            self._lease = None
            self._tell_lost(reason)
            if time.monotonic() - began_s < _SHORT_LIFE_S:
                # Somebody or something revokes our leases as we get them: no race with it.
                await asyncio.sleep(random.uniform(_SHORT_LIFE_S / 2, _SHORT_LIFE_S))

    async def _grant(self) -> LeaseGrant:
        async for attempt in _for_ever():
            with attempt:
                try:
                    return await self._client.grant_lease(self._ttl_s)
                except EtcdError as error:
                    self._tell_refused(error)
                    raise
        raise AssertionError("tenacity ends by a result or an exception")

    async def _keep_or_tell_why_not(self, lease_id: int) -> str:
        try:
            return await self._keep(lease_id)
        except EtcdClosedError as error:
            self._lease = None
            self._tell_lost(str(error))
            raise
        except Exception as error:
            # A defect. But the owner has to know that nobody renews its lease, and to get another one.
            logger.exception("keeping a lease failed", extra={"lease": self._name})
            return f"keeping it failed: {error}"

    async def _keep(self, lease_id: int) -> str:
        """Until the lease is lost: renew it, and have the owner put its keys. Why it is lost."""
        renewing = asyncio.ensure_future(self._renew_until_lost(lease_id))
        putting = asyncio.ensure_future(self._have_keys_put(lease_id))
        try:
            await asyncio.wait({renewing, putting}, return_when=asyncio.FIRST_COMPLETED)
            if putting.done() and not putting.result():
                return "etcd no longer had it when the keys were put"
            return await renewing
        finally:
            for task in (renewing, putting):
                task.cancel()
            await asyncio.gather(renewing, putting, return_exceptions=True)

    async def _have_keys_put(self, lease_id: int) -> bool:
        """Whether the owner could put its keys; not if the lease is lost."""
        async for attempt in _for_ever():
            with attempt:
                try:
                    await self._on_granted(lease_id)
                except EtcdLeaseNotFoundError:
                    return False
                except EtcdError as error:
                    self._tell_refused(error)
                    raise
                except Exception:
                    logger.exception("putting the keys of a lease failed", extra={"lease": self._name})
                    raise
        if self._refusal is not None:
            self._refusal = None
            logger.info("etcd takes the lease and its keys now", extra={"lease": self._name})
        return True

    async def _renew_until_lost(self, lease_id: int) -> str:
        while True:
            lease = self._lease
            assert lease is not None
            await asyncio.sleep(min(lease.ttl_s / 4, _LONGEST_INTERVAL_S))
            reason = await self._renew(lease)
            if reason is not None:
                return reason

    async def _renew(self, lease: LeaseGrant) -> str | None:
        """Renew once, in as many attempts as its deadline allows. Why it is lost, if it is."""
        longest_s = min(lease.ttl_s / 3, _LONGEST_RENEWAL_S)
        reason = "its time ran out while this program did not run"
        while (left_s := lease.deadline_s - time.monotonic()) > 0:
            try:
                self._lease = await self._client.renew_lease(lease.id, timeout_s=min(left_s, longest_s))
            except EtcdLeaseNotFoundError:
                return "etcd no longer has it: it expired there or was revoked"
            except EtcdError as error:
                reason = f"it could not be renewed in time: {error}"
                await asyncio.sleep(min(random.uniform(0.05, 0.1) * lease.ttl_s, 0.5))
            else:
                return None
        return reason

    def _tell_refused(self, error: EtcdError) -> None:
        reason = str(error)
        if not isinstance(error, EtcdUnavailableError | EtcdClosedError) and reason != self._refusal:
            self._refusal = reason
            logger.error("etcd refuses the lease or its keys", extra={"lease": self._name, "reason": reason})

    def _tell_lost(self, reason: str) -> None:
        logger.debug("lease lost", extra={"lease": self._name, "reason": reason})
        try:
            self._on_lost(reason)
        except Exception:
            logger.exception("the owner of a lease failed to take its loss", extra={"lease": self._name})


def _for_ever() -> AsyncRetrying:
    """Repeats until it succeeds or the client is closed, every second at last."""
    return AsyncRetrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, Exception) and not isinstance(error, EtcdClosedError)
        ),
        wait=wait_random_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    )
