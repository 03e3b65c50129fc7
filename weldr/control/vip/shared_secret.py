"""The secret in etcd by which instances know each other's messages: whoever misses it first makes it."""

from __future__ import annotations

import logging
import secrets

import msgspec

from weldr.control.vip.messages import KEY_BYTES
from weldr.control.vip.view import SECRET_NAME, Secret, View
from weldr.etcd.client import Compare, EtcdClient, Put
from weldr.model.keys import KeySpace, Kind

logger = logging.getLogger(__name__)


class SharedSecret:
    """Made if there is none, and left alone if there is."""

    def __init__(self, client: EtcdClient, keys: KeySpace, view: View) -> None:
        self._client = client
        self._key = keys.key(Kind.SECRET, SECRET_NAME)
        self._view = view
        self._told = False

    async def see_to_it(self) -> None:
        """Make it, or say that what is there is none.

        Raises `EtcdError`.
        """
        self._tell()
        if SECRET_NAME not in self._view.secrets:
            value = msgspec.json.encode(Secret(secrets.token_hex(KEY_BYTES)))
            await self._client.transaction(
                [Compare.create_revision(self._key, "==", 0)], [Put(self._key, value)]
            )

    def _tell(self) -> None:
        unusable = self._view.secret_is_unusable
        if unusable and not self._told:
            logger.error(
                "the value of a key is no secret: instances that start cannot talk to the others, and a virtual"
                " IP is lost with etcd; delete the key, and a new one is made",
                extra={"key": self._key.decode("utf-8", "backslashreplace")},
            )
        self._told = unusable
