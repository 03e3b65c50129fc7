"""Keeps one session with one good member, and moves on from a bad one.

There is at most one session. Whoever finds it bad says so with `failed`; the first to do so has it closed
(which fails at once whatever else hangs on it) and a single task looks for another member, one after the other,
with a growing, jittered pause after each full round. All who need a session wait for that task, each until its
own deadline.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

from tenacity import AsyncRetrying, retry_if_exception_type

from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdClosedError, EtcdError, EtcdUnavailableError
from weldr.etcd.login import Login
from weldr.etcd.session import Session

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_LOGIN_SESSION_S = 5.0
# What a member that stops in good order still answers on its old connections.
_GOODBYE_S = 0.5
_SETTLE_S = 0.05

_SOUND_VERSION = (3, 5, 23)
_DEFECTS = (
    "older versions may lose watch events around a compaction, renew leases that were revoked, "
    "or (3.5.0 to 3.5.2) let members diverge"
)


class Connection:
    """See the module."""

    def __init__(self, config: EtcdConfig) -> None:
        self._config = config
        self._session: Session | None = None
        self._connecting: asyncio.Task[Session] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._goodbye: asyncio.Task[None] | None = None
        self._closed = False
        # Many clients start with the same list; they should not all sit on its first member.
        self._next_endpoint = random.randrange(len(config.endpoints))
        self._outage = _Outage(len(config.endpoints))
        self.login = Login(config, lambda: self.session(_LOGIN_SESSION_S), self.failed)
        self._warned_of_version = False

    @property
    def endpoint(self) -> str | None:
        """The member that requests go to, if there is one."""
        return str(self._session.endpoint) if self._session is not None else None

    async def session(self, timeout_s: float) -> Session:
        """The current session, or a new one as soon as there is one.

        Raises `EtcdUnavailableError`, `EtcdClosedError`, and `EtcdAuthError` after a refused login, none of
        which sent the request.
        """
        if self._closed:
            raise EtcdClosedError
        # Until the next login is due requests fail without asking etcd.
        self.login.raise_if_refused()
        if self._session is not None:
            return self._session
        connecting = self._connect_soon()
        await asyncio.wait({connecting}, timeout=max(timeout_s, 0.0))
        if not connecting.done():
            raise EtcdUnavailableError(self._outage.reason, endpoint="any member", maybe_applied=False)
        if connecting.cancelled():
            raise EtcdClosedError
        return connecting.result()

    def failed(self, session: Session, error: EtcdUnavailableError) -> None:
        """A request or stream on `session` failed like this."""
        if session is not self._session or not error.member_at_fault or self._closed:
            return
        self._outage.note_failure(error)
        self._give_up(session, error.reason)

    def succeeded(self) -> None:
        """etcd as a whole, and not only one member of it, has answered."""
        self._outage.note_success()
        self.login.note_success()

    async def close(self) -> None:
        """Close what is open; requests in flight fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        await self.login.close()
        self._drop_session()
        await asyncio.gather(*self._closing, return_exceptions=True)
        # What gRPC still owes to a loop that is closed shows up as errors in other loops of the application.
        await asyncio.sleep(_SETTLE_S)

    def _give_up(self, session: Session, reason: str, grace_s: float = 0.0) -> None:
        logger.debug("etcd session given up", extra={"endpoint": str(session.endpoint), "reason": reason})
        self._drop_session(grace_s)
        self._connect_soon()

    def _drop_session(self, grace_s: float = 0.0) -> None:
        if self._session is None:
            return
        if self._goodbye is not None and self._goodbye is not asyncio.current_task():
            self._goodbye.cancel()
        task = asyncio.create_task(self._session.close(grace_s), name="etcd-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        self._session = None
        self.login.note_lost_session()

    async def _move_when_left(self, session: Session) -> None:
        await session.left_by_member()
        self._give_up(session, "the member closes the connection", _GOODBYE_S)

    def _connect_soon(self) -> asyncio.Task[Session]:
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="etcd-connect")
            self._connecting.add_done_callback(_note_result)
        return self._connecting

    async def _connect(self) -> Session:
        await asyncio.sleep(self._outage.pause_s())
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(EtcdUnavailableError),
            wait=lambda _: self._outage.pause_s(),
            reraise=True,
        ):
            with attempt:
                return await self._try_next_member()
        raise AssertionError("tenacity ends by a result or an exception")

    async def _try_next_member(self) -> Session:
        endpoints = self._config.endpoints
        endpoint = endpoints[self._next_endpoint]
        self._next_endpoint = (self._next_endpoint + 1) % len(endpoints)
        try:
            session = await Session.open(endpoint, self._config, lambda: self.login.token)
        except EtcdUnavailableError as error:
            self._outage.note_failure(error)
            raise
        except EtcdError as error:
            # No answer that a member in order gives to its first questions.
            unusable = EtcdUnavailableError(str(error), endpoint=str(endpoint), maybe_applied=False)
            self._outage.note_failure(unusable)
            raise unusable from None
        self._session = session
        self._goodbye = asyncio.create_task(self._move_when_left(session), name="etcd-goodbye")
        logger.debug("etcd session opened", extra={"endpoint": str(endpoint), "version": session.version})
        self._warn_of_version(session)
        return session

    def _warn_of_version(self, session: Session) -> None:
        version = tuple(int(part) for part in session.version.split("-")[0].split(".") if part.isdigit())
        if version and version < _SOUND_VERSION and not self._warned_of_version:
            self._warned_of_version = True
            logger.warning(
                "this etcd is older than 3.5.23: upgrade it",
                extra={"endpoint": str(session.endpoint), "version": session.version, "reason": _DEFECTS},
            )


def _note_result(task: asyncio.Task[Session]) -> None:
    # Nobody may be waiting; asyncio would complain about an exception that nobody took.
    if not task.cancelled():
        task.exception()


class _Outage:
    """Counts failures since etcd last answered; logs the two changes of state; spaces the attempts."""

    def __init__(self, members: int) -> None:
        self.reason = "no member has been reached yet"
        self._members = members
        self._failures = 0
        self._since_s: float | None = None

    def note_failure(self, error: EtcdUnavailableError) -> None:
        self._failures += 1
        self.reason = f"{error.endpoint}: {error.reason}"
        # One more than there are members, so that a single lost request is no outage yet.
        if self._failures > self._members and self._since_s is None:
            self._since_s = time.monotonic()
            logger.warning("etcd is unreachable", extra={"reason": self.reason})

    def note_success(self) -> None:
        self._failures = 0
        if self._since_s is not None:
            down_s = round(time.monotonic() - self._since_s, 1)
            self._since_s = None
            logger.info("etcd is reachable again", extra={"after_s": down_s})

    def pause_s(self) -> float:
        """How long to wait before the next member is tried: not at all within the first round."""
        rounds = self._failures // self._members
        if rounds == 0 or self._failures % self._members:
            return 0.0
        longest = min(_FIRST_PAUSE_S * 2 ** min(rounds - 1, 16), _LONGEST_PAUSE_S)
        return random.uniform(longest / 2, longest)
