"""Follows a prefix for good: a snapshot, then every revision after it, each once and in order.

The resume point is the revision of the last snapshot or event that was handed on. Nothing else moves it: no
progress answer, no header. A watch begins one behind it, so a disconnection, of whatever length, costs nothing
as long as etcd keeps the history.

That holds only in the same history. So before each watch a linearizable read asks where we are: another cluster
id, a revision before our resume point, or a raft term that went backwards mean that etcd was restored or
replaced, and a new snapshot follows. So it does when the history from the resume point on was compacted. A
restored etcd that has since grown past our resume point is not to be told by its numbers; that is found by the
audit, which compares what was handed on with what etcd has, after each reconnection and every few minutes.

A watch that does not come to life although etcd can be read is replaced by reading all anew, every few seconds.

Snapshots replace all that came before. The consumer applies them as a difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from weldr.etcd.answers import Header
from weldr.etcd.audit import Differences, Noted, audit, fingerprint
from weldr.etcd.client import EtcdClient, prefix_end
from weldr.etcd.errors import (
    EtcdAuthError,
    EtcdClosedError,
    EtcdCompactedError,
    EtcdError,
    EtcdFutureRevisionError,
    EtcdOtherClusterError,
    EtcdUnavailableError,
)
from weldr.etcd.handover import Handover
from weldr.etcd.session import Session
from weldr.etcd.trouble import Trouble
from weldr.etcd.watch import watch
from weldr.model.events import KeyValue, Revision

logger = logging.getLogger(__name__)

DEFAULT_AUDIT_INTERVAL_S = 180.0
_BUFFERED_CHANGES = 256
_BUFFERED_BYTES = 16 * 1024 * 1024
# What a pair takes beside its key and its value, roughly.
_PAIR_BYTES = 300
_SESSION_TIMEOUT_S = 5.0
_SHORT_LIFE_S = 1.0
_AUTH_PAUSE_S = 3.0
_PAUSES = wait_random_exponential(multiplier=0.05, max=2.0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys below the prefix at a revision. It replaces everything before it."""

    revision: int
    key_values: tuple[KeyValue, ...]
    reason: str
    """Why it was taken: `start`, `compacted`, `restored`, `audit` or `unwatched`."""


Change = Snapshot | Revision


class Follower:
    """Iterate over it for single changes, or over `batches()` for all that have arrived at a time.

    One iteration at a time; each begins with a snapshot. It ends only with the client, by `EtcdClosedError`.
    """

    def __init__(
        self, client: EtcdClient, prefix: bytes, *, audit_interval_s: float = DEFAULT_AUDIT_INTERVAL_S
    ) -> None:
        self.connected = False
        """Whether a watch is alive, as far as is known."""
        self.last_contact_s: float | None = None
        """When the watch last gave a sign of life, by the monotonic clock."""
        self.snapshots = 0
        self.reconnections = 0
        self.audits = 0
        self.audit_failures = 0
        self._client = client
        self._prefix = prefix
        self._audit_interval_s = audit_interval_s
        self._start_over()

    def _start_over(self) -> None:
        self._changes: Handover[Change] = Handover(_BUFFERED_CHANGES, _BUFFERED_BYTES)
        self._place: Header | None = None
        self._snapshot_reason: str | None = "start"
        self._revision = 0
        self._fingerprints: dict[bytes, int] = {}
        self._expected_revision = 0
        self._expected_since_s = 0.0
        self._audit_at_s = self._next_audit_s()
        self._trouble = Trouble(self._prefix)
        self._contacts = 0

    @property
    def revision(self) -> int:
        """The resume point: the last revision that was handed on."""
        return self._revision

    def expect(self, revision: int) -> None:
        """The caller wrote below the prefix at this revision: a watch that does not deliver it is dead."""
        if self._revision >= self._expected_revision:
            self._expected_since_s = time.monotonic()
        self._expected_revision = max(self._expected_revision, revision)

    @property
    def lag_s(self) -> float:
        """For how long something is missing that the caller has written; 0 if nothing is."""
        late = self._revision < self._expected_revision
        return time.monotonic() - self._expected_since_s if late else 0.0

    async def __aiter__(self) -> AsyncGenerator[Change, None]:
        async with contextlib.aclosing(self.batches()) as batches:
            async for changes in batches:
                for change in changes:
                    yield change

    async def batches(self) -> AsyncGenerator[list[Change], None]:
        """All changes that have arrived, as soon as there is one."""
        self._start_over()
        following = asyncio.create_task(self._follow(), name="etcd-follow")
        try:
            while True:
                yield await self._changes.take()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            self.connected = False

    async def _follow(self) -> None:
        try:
            while True:
                async for attempt in AsyncRetrying(
                    retry=retry_if_exception(_is_worth_another_try), wait=_pause_s, reraise=True
                ):
                    with attempt:
                        await self._follow_once()
        except Exception as error:
            if not isinstance(error, EtcdClosedError):
                logger.exception("following etcd failed")
            self._changes.end(error)

    async def _follow_once(self) -> None:
        """Until the watch ends. Raises `EtcdError` where the next try has to wait a little."""
        began_s = time.monotonic()
        self._contacts = 0
        try:
            try:
                session = await self._find_place()
            except EtcdUnavailableError:
                self._trouble.note_read(succeeded=False)
                raise
            self._trouble.note_read(succeeded=True)
            await self._watch_and_audit(session)
        except EtcdCompactedError as error:
            self._snapshot_reason = "compacted"
            logger.debug("history is compacted", extra={"revision": error.compact_revision})
        except EtcdError as error:
            if self._trouble.note_failure(error):
                self._snapshot_reason = "unwatched"
            # A watch that lived for long may end for many a good reason; the next one starts at once.
            if not self.connected or time.monotonic() - began_s < _SHORT_LIFE_S:
                raise
        finally:
            # Told once. A stream that missed it is replaced, and the audit looks after what is missing.
            self._expected_revision = 0
            if self.connected:
                self.connected = False
                self.reconnections += 1
                self._audit_at_s = time.monotonic()

    async def _find_place(self) -> Session:
        """Make sure that what comes next follows what was handed on; with a new snapshot if need be.

        Gives the session to the member that said so: it is the one to be watched.
        """
        connection = self._client.connection
        while True:
            session = await connection.session(_SESSION_TIMEOUT_S)
            await self._check_place()
            if await connection.session(_SESSION_TIMEOUT_S) is session:
                return session

    async def _check_place(self) -> None:
        if self._place is not None and self._snapshot_reason is None:
            result = await self._client.range(
                self._prefix or b"\0", prefix_end(self._prefix), limit=1, keys_only=True
            )
            now = result.header
            same = now.cluster_id == self._place.cluster_id
            if same and now.revision >= self._revision and now.raft_term >= self._place.raft_term:
                self._place = now
                return
            self._snapshot_reason = "restored"
        await self._take_snapshot(self._snapshot_reason or "start")

    async def _take_snapshot(self, reason: str) -> None:
        read = await self._client.read_prefix(self._prefix)
        self._tell_snapshot(reason, read.header)
        snapshot = Snapshot(read.revision, read.key_values, reason)
        await self._changes.put(snapshot, sum(map(_size, read.key_values)))
        self.snapshots += 1
        self._place = read.header
        self._snapshot_reason = None
        self._revision = read.revision
        self._fingerprints = {pair.key: fingerprint(pair) for pair in read.key_values}
        self._audit_at_s = self._next_audit_s()

    async def _watch_and_audit(self, session: Session) -> None:
        tasks = {asyncio.ensure_future(self._watch(session)), asyncio.ensure_future(self._audit_regularly())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, session: Session) -> None:
        stream = watch(
            session,
            self._prefix,
            self._revision + 1,
            expected=lambda: self._expected_revision,
            on_contact=self._note_contact,
        )
        try:
            async with contextlib.aclosing(stream) as revisions_lists:
                async for revisions in revisions_lists:
                    for revision in revisions:
                        await self._hand_on(revision)
        except EtcdUnavailableError as error:
            self._client.connection.failed(session, error)
            raise

    async def _hand_on(self, revision: Revision) -> None:
        await self._changes.put(revision, sum(_size(event.key_value) for event in revision.events))
        # From here to the end without a pause, so that what is noted is what was handed on.
        self._revision = revision.revision
        for event in revision.events:
            if event.deleted:
                self._fingerprints.pop(event.key_value.key, None)
            else:
                self._fingerprints[event.key_value.key] = fingerprint(event.key_value)

    async def _audit_regularly(self) -> None:
        """Returns when an audit found a difference."""
        while True:
            await asyncio.sleep(self._audit_at_s - time.monotonic())
            try:
                differences = await audit(self._client, self._prefix, self._note, self._is_held_back)
            except (EtcdFutureRevisionError, EtcdOtherClusterError):
                self._snapshot_reason = "restored"
                return
            except EtcdError as error:
                logger.debug("no audit: etcd could not be read", extra={"reason": str(error)})
                self._audit_at_s = time.monotonic() + _SHORT_LIFE_S
                continue
            self._audit_at_s = self._next_audit_s()
            self.audits += 1
            if differences:
                self.audit_failures += 1
                self._snapshot_reason = "audit"
                self._tell_differences(differences)
                return

    def _next_audit_s(self) -> float:
        # A point in time and not a pause: it has to outlast any number of watches.
        return time.monotonic() + self._audit_interval_s * random.uniform(0.8, 1.2)

    def _note(self) -> Noted:
        assert self._place is not None
        return Noted(self._place.cluster_id, self._revision, self._fingerprints)

    def _is_held_back(self) -> bool:
        return self._changes.blocked

    def _note_contact(self) -> None:
        self.last_contact_s = time.monotonic()
        self._contacts += 1
        self._trouble.note_contact(first=self._contacts == 1)
        self.connected = True

    def _tell_snapshot(self, reason: str, header: Header) -> None:
        # What leads to reading in place of watching is told as trouble.
        if reason in ("start", "unwatched"):
            return
        extra = {"prefix": self._shown_prefix, "reason": reason, "revision": header.revision}
        logger.info("all keys were read anew", extra=extra | {"after": self._revision})

    def _tell_differences(self, differences: Differences) -> None:
        logger.error(
            "the audit found keys that differ from etcd: reading all anew",
            extra={
                "prefix": self._shown_prefix,
                "revision": differences.revision,
                "keys": [key.decode("utf-8", "backslashreplace") for key in differences.keys],
                "count": differences.count,
            },
        )

    @property
    def _shown_prefix(self) -> str:
        return self._prefix.decode("utf-8", "backslashreplace")


def _size(pair: KeyValue) -> int:
    return len(pair.key) + len(pair.value) + _PAIR_BYTES


def _is_worth_another_try(error: BaseException) -> bool:
    return isinstance(error, EtcdError) and not isinstance(error, EtcdClosedError)


def _pause_s(state: RetryCallState) -> float:
    pause_s = _PAUSES(state)
    refused = state.outcome is not None and isinstance(state.outcome.exception(), EtcdAuthError)
    return pause_s + _AUTH_PAUSE_S if refused else pause_s
