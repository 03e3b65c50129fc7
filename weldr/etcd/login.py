"""The token that etcd gives for user and password, and the logins that get it.

A login makes etcd compute a hash that is made to be slow. A thousand clients that log in at once, or again and
again, are enough to stop a cluster. So a token is kept for as long as etcd takes it, over any number of
sessions; one login serves all who wait for it; after a lost session, when all clients may have lost their
tokens at the same instant, it waits for a random moment; and while etcd is too busy to answer, or refuses, the
pauses grow.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import (
    EtcdAuthError,
    EtcdClosedError,
    EtcdTimeoutError,
    EtcdUnavailableError,
)
from weldr.etcd.session import Session

logger = logging.getLogger(__name__)

_JITTER_S = 0.25
_JITTER_AFTER_LOSS_S = 2.0
_FIRST_TIMEOUT_PAUSE_S = 2.0
_LONGEST_TIMEOUT_PAUSE_S = 30.0
_FIRST_REFUSAL_PAUSE_S = 5.0
_LONGEST_REFUSAL_PAUSE_S = 60.0


class Login:
    """See the module. `connect` gives a session to log in with."""

    def __init__(
        self,
        config: EtcdConfig,
        connect: Callable[[], Awaitable[Session]],
        failed: Callable[[Session, EtcdUnavailableError], None],
    ) -> None:
        """`failed` is told of a session whose login did not get an answer."""
        self.token: str | None = None
        self._config = config
        self._connect = connect
        self._failed = failed
        self._refusal = _Refusal(config.user)
        self._task: asyncio.Task[None] | None = None
        self._timeouts = 0
        # Nobody else begins at the very instant at which we do.
        self._jitter_s = 0.0

    def raise_if_refused(self) -> None:
        """Raises `EtcdAuthError` while a refused login is not to be tried again."""
        self._refusal.raise_if_recent()

    def note_lost_session(self) -> None:
        """The member may be gone, with the tokens of all its clients."""
        self._jitter_s = _JITTER_AFTER_LOSS_S

    def note_success(self) -> None:
        """etcd does what we ask: with the token, or because it needs none any more."""
        self._refusal.clear()

    async def renew(self, stale_token: str | None, timeout_s: float) -> None:
        """Get another token than the one that etcd did not take, if nobody has got it yet.

        Raises `EtcdAuthError`, `EtcdClosedError`, and `EtcdUnavailableError` with `maybe_applied` unset.
        """
        if self._config.user is None:
            raise EtcdAuthError("etcd asks for a user: give --user")
        if self.token != stale_token:
            return
        self._refusal.raise_if_recent()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._log_in(), name="etcd-login")
            self._task.add_done_callback(_note_result)
        task = self._task
        await asyncio.wait({task}, timeout=max(timeout_s, 0.0))
        if not task.done():
            raise EtcdUnavailableError(
                "the login got no answer in time",
                endpoint="any member",
                maybe_applied=False,
                member_at_fault=False,
            )
        if task.cancelled():
            raise EtcdClosedError
        task.result()

    async def _log_in(self) -> None:
        await asyncio.sleep(self._pause_s())
        self._jitter_s = _JITTER_S
        session = await self._connect()
        try:
            self.token = await session.authenticate(self._config)
        except EtcdAuthError as error:
            self._refusal.note(error)
            raise
        except EtcdUnavailableError as error:
            if isinstance(error, EtcdTimeoutError):
                self._timeouts += 1
            self._failed(session, error)
            # What is certain is that the request for whose sake this was done was not applied.
            raise EtcdUnavailableError(
                f"no login: {error.reason}", endpoint=error.endpoint, maybe_applied=False
            ) from None
        self._timeouts = 0
        self._refusal.clear()
        logger.debug("logged in to etcd")

    def _pause_s(self) -> float:
        pause_s = random.uniform(0, self._jitter_s)
        if self._timeouts:
            longest_s = min(_FIRST_TIMEOUT_PAUSE_S * 2 ** min(self._timeouts - 1, 16), _LONGEST_TIMEOUT_PAUSE_S)
            pause_s += random.uniform(longest_s / 2, longest_s)
        return pause_s

    async def close(self) -> None:
        """End a login that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def _note_result(task: asyncio.Task[None]) -> None:
    # Nobody may be waiting any more; asyncio would complain about an exception that nobody took.
    if not task.cancelled():
        task.exception()


class _Refusal:
    """Remembers that etcd refused the login, and when it may be tried again."""

    def __init__(self, user: str | None) -> None:
        self._user = user
        self._error: EtcdAuthError | None = None
        self._count = 0
        self._retry_at_s = 0.0

    def note(self, error: EtcdAuthError) -> None:
        if self._error is None:
            logger.error("etcd refuses the login", extra={"user": self._user, "reason": error.reason})
        self._error = error
        pause_s = min(_FIRST_REFUSAL_PAUSE_S * 2 ** min(self._count, 16), _LONGEST_REFUSAL_PAUSE_S)
        self._retry_at_s = time.monotonic() + random.uniform(pause_s / 2, pause_s)
        self._count += 1

    def clear(self) -> None:
        if self._error is not None:
            logger.info("etcd accepts the login again", extra={"user": self._user})
        self._error = None
        self._count = 0

    def raise_if_recent(self) -> None:
        if self._error is not None and time.monotonic() < self._retry_at_s:
            raise EtcdAuthError(self._error.reason)
