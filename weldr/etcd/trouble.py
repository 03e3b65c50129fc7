"""What keeps a prefix from being followed: told once, and so is its end.

That etcd is away is told by the connection. Here is told what only this prefix has: a refusal, or a watch that
does not come to life although etcd can be read. The latter also asks for a fallback: reading all anew.
"""

from __future__ import annotations

import logging
import time

from weldr.etcd.errors import EtcdClosedError, EtcdError, EtcdUnavailableError

logger = logging.getLogger(__name__)

_FALLBACK_S = 6.0
_TELL_S = 10.0
_UNWATCHED = "etcd can be read, but the watch does not come to life"


class Trouble:
    """See the module."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix.decode("utf-8", "backslashreplace")
        self._told: str | None = None
        self._unwatched_since_s: float | None = None
        self._fallback_at_s = 0.0

    def note_read(self, succeeded: bool) -> None:
        """etcd was read, or could not be, before a watch."""
        if not succeeded:
            self._unwatched_since_s = None
        elif self._unwatched_since_s is None:
            self._unwatched_since_s = time.monotonic()
            self._fallback_at_s = self._unwatched_since_s + _FALLBACK_S

    def note_contact(self, first: bool) -> None:
        """The watch said something; the first of it, that it was created, is no life yet."""
        if not first:
            self._unwatched_since_s = None
        elif self._told == _UNWATCHED:
            return
        if self._told is not None:
            logger.info("following etcd works again", extra={"prefix": self._prefix})
            self._told = None

    def note_failure(self, error: EtcdError) -> bool:
        """The watch, or what goes before it, failed. Whether all is to be read anew in its place."""
        if isinstance(error, EtcdClosedError):
            return False
        if not isinstance(error, EtcdUnavailableError):
            self._tell(str(error), str(error))
            return False
        if self._unwatched_since_s is None:
            return False
        now_s = time.monotonic()
        if now_s - self._unwatched_since_s > _TELL_S:
            self._tell(_UNWATCHED, f"{_UNWATCHED}: {error.reason}")
        if now_s < self._fallback_at_s:
            return False
        self._fallback_at_s = now_s + _FALLBACK_S
        return True

    def _tell(self, kind: str, reason: str) -> None:
        if self._told == kind:
            return
        self._told = kind
        logger.error("etcd cannot be followed", extra={"prefix": self._prefix, "reason": reason})
