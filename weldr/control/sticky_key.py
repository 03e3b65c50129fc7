"""Makes the key that sticky cookies are signed with: `sticky_key`, once for all instances.

Whoever first needs it puts it, in a transaction that does so only if there is none. So all instances sign
alike, a client keeps its backend wherever it comes in, and nobody has to invent a secret. Who deletes the key
has another one made, which ends the binding of every client.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

import msgspec

from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError, EtcdUnavailableError
from weldr.etcd.operations import Compare, Put
from weldr.model.catalog import Catalog
from weldr.model.values import StickyKey

logger = logging.getLogger(__name__)

_KEY_BYTES = 32
_LEAST_PAUSE_S = 0.1
_RETRY_PAUSE_S = 2.0


class StickyKeyMaker:
    """See the module."""

    def __init__(self, client: EtcdClient, key: bytes) -> None:
        self._client = client
        self._key = key
        self._changed = asyncio.Event()
        self._catalog: Catalog | None = None
        self._failure: str | None = None

    def follow(self, catalog: Catalog) -> None:
        """The catalog is another."""
        self._catalog = catalog
        self._changed.set()

    @property
    def _needed(self) -> bool:
        if self._catalog is None or self._key in self._catalog.entries:
            return False
        return any(service.policy.balance.sticky for service in self._catalog.traffic.services.values())

    async def run(self) -> None:
        """Make the key whenever it is needed and not there."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._needed and not await self._make():
                self._changed.set()
                await asyncio.sleep(_RETRY_PAUSE_S)
            # A burst of changes is looked at once.
            await asyncio.sleep(_LEAST_PAUSE_S)

    async def _make(self) -> bool:
        """Whether there is a key now."""
        value = msgspec.json.encode(StickyKey(key=secrets.token_bytes(_KEY_BYTES)))
        missing = Compare.create_revision(self._key, "==", 0)
        try:
            await self._client.transaction([missing], [Put(self._key, value)])
        except EtcdError as error:
            # That etcd is away is said by the client.
            if not isinstance(error, EtcdUnavailableError) and str(error) != self._failure:
                self._failure = str(error)
                logger.error(
                    "the key for sticky cookies cannot be made: no cookies are given until somebody puts it",
                    extra={"key": self._key.decode("utf-8", "replace"), "reason": self._failure},
                )
            return False
        self._failure = None
        return True
