"""Requests to etcd, each with a deadline, each sent again only if that cannot do anything twice.

A read, a renewal or a revocation is repeated, on another member if need be, until its deadline. A write is
repeated only while it is certain that it was not applied: it never left, or etcd refused it before proposing
it. Otherwise the caller gets the error, with `maybe_applied` set, and decides.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

from weldr.etcd.answers import (
    Header,
    LeaseGrant,
    LeaseTimeToLive,
    MemberStatus,
    PrefixRead,
    RangeResult,
    TransactionResult,
    delete_of,
    header_of,
    range_of,
    transaction_of,
)
from weldr.etcd.calls import Calls
from weldr.etcd.config import EtcdConfig
from weldr.etcd.connection import Connection
from weldr.etcd.errors import (
    EtcdAnswerTooLargeError,
    EtcdError,
    EtcdLeaseNotFoundError,
    EtcdLoginNeededError,
    EtcdTimeoutError,
    EtcdUnavailableError,
)
from weldr.etcd.operations import (
    Compare,
    Delete,
    Operation,
    Put,
    Read,
    prefix_end,
    transaction_request,
)
from weldr.etcd.protocol import rpc
from weldr.etcd.session import Session
from weldr.model.events import KeyValue

__all__ = ["Compare", "Delete", "EtcdClient", "Put", "Read", "prefix_end"]

Answer = TypeVar("Answer")

_PAGE_KEYS = 1000
_ATTEMPT_S = 2.0
# An answer that took less is late only for an impatient caller; it says nothing about the member.
_SUSPICIOUS_WAIT_S = 1.5
_LOGINS_PER_REQUEST = 2
_SHORTEST_ATTEMPT_S = 0.05


class EtcdClient:
    """One etcd, by whichever of its members answers. Belongs to the event loop that it is first used in."""

    def __init__(self, config: EtcdConfig) -> None:
        self.config = config
        self.connection = Connection(config)
        self.calls = Calls()

    async def __aenter__(self) -> EtcdClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; what is in flight fails."""
        await self.connection.close()

    # --- keys

    async def range(
        self,
        key: bytes,
        range_end: bytes = b"",
        *,
        revision: int = 0,
        limit: int = 0,
        keys_only: bool = False,
        count_only: bool = False,
        timeout_s: float | None = None,
    ) -> RangeResult:
        """Read, linearizably, a key or all keys from it up to but not including `range_end`."""
        request = rpc.RangeRequest(
            key=key,
            range_end=range_end,
            revision=revision,
            limit=limit,
            keys_only=keys_only,
            count_only=count_only,
        )
        return range_of(await self._repeatable(lambda session: session.kv.Range, request, timeout_s))

    async def get(self, key: bytes, *, timeout_s: float | None = None) -> KeyValue | None:
        """One key."""
        found = (await self.range(key, timeout_s=timeout_s)).key_values
        return found[0] if found else None

    async def read_prefix(
        self,
        prefix: bytes,
        *,
        revision: int = 0,
        keys_only: bool = False,
        page: int = _PAGE_KEYS,
        timeout_s: float | None = None,
    ) -> PrefixRead:
        """All keys under a prefix at one revision, however many; `timeout_s` is for each page.

        Raises `EtcdCompactedError` if the revision is compacted before the last page is read.
        """
        pages = [
            read
            async for read in self.pages(
                prefix, revision=revision, keys_only=keys_only, page=page, timeout_s=timeout_s
            )
        ]
        pairs = tuple(pair for read in pages for pair in read.key_values)
        return PrefixRead(pages[0].header, pages[0].revision, pairs)

    async def pages(
        self,
        prefix: bytes,
        *,
        revision: int = 0,
        keys_only: bool = False,
        page: int = _PAGE_KEYS,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[PrefixRead, None]:
        """What `read_prefix` reads, page by page and at least one, for those who need not hold all of it."""
        start, end = prefix or b"\0", prefix_end(prefix)
        header: Header | None = None
        while True:
            try:
                result = await self.range(
                    start, end, revision=revision, limit=page, keys_only=keys_only, timeout_s=timeout_s
                )
            except EtcdAnswerTooLargeError:
                if page == 1:
                    raise
                page = max(1, page // 2)
                continue
            header = header or result.header
            if result.header.cluster_id != header.cluster_id:
                raise EtcdUnavailableError(
                    "the pages of a read came from different clusters", endpoint="any member"
                )
            revision = revision or header.revision
            yield PrefixRead(header, revision, result.key_values)
            if not result.more:
                return
            start = result.key_values[-1].key + b"\0"

    async def put(self, key: bytes, value: bytes, *, lease: int = 0, timeout_s: float | None = None) -> Header:
        """Write a key."""
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        return header_of(await self._once(lambda session: session.kv.Put, request, timeout_s))

    async def delete(
        self, key: bytes, range_end: bytes = b"", *, timeout_s: float | None = None
    ) -> tuple[int, Header]:
        """Delete a key or a range; how many keys are gone."""
        request = rpc.DeleteRangeRequest(key=key, range_end=range_end)
        answer = delete_of(await self._once(lambda session: session.kv.DeleteRange, request, timeout_s))
        return answer.deleted, answer.header

    async def transaction(
        self,
        compares: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        timeout_s: float | None = None,
    ) -> TransactionResult:
        """Do `success` if all of `compares` hold, else `failure`, in one revision."""
        request = transaction_request(compares, success, failure)
        return transaction_of(await self._once(lambda session: session.kv.Txn, request, timeout_s))

    # --- leases

    async def grant_lease(self, ttl_s: int, *, timeout_s: float | None = None) -> LeaseGrant:
        """A new lease; etcd may give it more than `ttl_s`. One whose answer is lost expires by itself."""
        sent_s = 0.0

        def method(session: Session) -> Any:
            nonlocal sent_s
            sent_s = time.monotonic()
            return session.lease.LeaseGrant

        answer = await self._once(method, rpc.LeaseGrantRequest(TTL=ttl_s), timeout_s)
        return LeaseGrant(answer.ID, answer.TTL, sent_s + answer.TTL, header_of(answer))

    async def renew_lease(self, lease_id: int, *, timeout_s: float | None = None) -> LeaseGrant:
        """Start the lease's time anew. A member that does not answer this in `timeout_s` is given up.

        Raises `EtcdLeaseNotFoundError` if it is lost.
        """

        async def exchange(session: Session, attempt_s: float) -> LeaseGrant:
            sent_s = time.monotonic()
            request = rpc.LeaseKeepAliveRequest(ID=lease_id)
            answer = await session.exchange(session.lease.LeaseKeepAlive, request, attempt_s)
            if answer is None:
                raise EtcdUnavailableError("the renewal got no answer", endpoint=str(session.endpoint))
            if answer.TTL <= 0:
                # That is how etcd answers for a lease that it does not have.
                raise EtcdLeaseNotFoundError(lease_id)
            return LeaseGrant(answer.ID, answer.TTL, sent_s + answer.TTL, header_of(answer))

        return await self._request("LeaseKeepAlive", exchange, timeout_s, repeatable=True, suspicious_s=0.0)

    async def revoke_lease(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        """End the lease and delete its keys, in one revision. It may be gone already."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        try:
            await self._repeatable(lambda session: session.lease.LeaseRevoke, request, timeout_s)
        except EtcdLeaseNotFoundError:
            return

    async def time_to_live(self, lease_id: int, *, timeout_s: float | None = None) -> LeaseTimeToLive:
        """What is left of a lease, by etcd's clock.

        Raises `EtcdLeaseNotFoundError`.
        """
        # Without its keys: those may be many, and who may not read one of them would be told nothing.
        request = rpc.LeaseTimeToLiveRequest(ID=lease_id)
        answer = await self._repeatable(lambda session: session.lease.LeaseTimeToLive, request, timeout_s)
        # etcd cuts the seconds off: 0 is less than one, -1 is gone.
        if answer.TTL < 0:
            raise EtcdLeaseNotFoundError(lease_id)
        return LeaseTimeToLive(answer.ID, answer.grantedTTL, answer.TTL, header_of(answer))

    async def lease_lives(self, lease_id: int, *, timeout_s: float | None = None) -> bool:
        """Whether a lease has neither run out nor been revoked."""
        try:
            await self.time_to_live(lease_id, timeout_s=timeout_s)
        except EtcdLeaseNotFoundError:
            return False
        return True

    # --- the member

    async def status(self, *, timeout_s: float | None = None) -> MemberStatus:
        """What the member that is in use says about itself."""

        async def ask(session: Session, attempt_s: float) -> MemberStatus:
            status = await session.status(attempt_s)
            if status is None:
                raise EtcdLoginNeededError("this user may not ask for the member's status")
            return status

        return await self._request("Status", ask, timeout_s, repeatable=True)

    # --- how all of them are sent

    async def _repeatable(self, method: Callable[[Session], Any], message: Any, timeout_s: float | None) -> Any:
        return await self._request(_name(message), _unary(method, message), timeout_s, repeatable=True)

    async def _once(self, method: Callable[[Session], Any], message: Any, timeout_s: float | None) -> Any:
        return await self._request(_name(message), _unary(method, message), timeout_s, repeatable=False)

    async def _request(
        self,
        operation: str,
        send: Callable[[Session, float], Awaitable[Answer]],
        timeout_s: float | None,
        *,
        repeatable: bool,
        suspicious_s: float = _SUSPICIOUS_WAIT_S,
    ) -> Answer:
        deadline_s = time.monotonic() + (self.config.timeout_s if timeout_s is None else timeout_s)
        logins = 0

        def again(error: BaseException) -> bool:
            nonlocal logins
            if isinstance(error, EtcdLoginNeededError):
                logins += 1
                return logins <= _LOGINS_PER_REQUEST
            return isinstance(error, EtcdUnavailableError) and (repeatable or not error.maybe_applied)

        async for attempt in AsyncRetrying(
            retry=retry_if_exception(again),
            # No attempt that has no time: its failure would hide the real one, and look like a lost answer.
            stop=lambda state: deadline_s - time.monotonic() - state.upcoming_sleep < _SHORTEST_ATTEMPT_S,
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        ):
            with attempt:
                return await self._attempt(operation, send, deadline_s, repeatable, suspicious_s)
        raise AssertionError("tenacity ends by a result or an exception")

    async def _attempt(
        self,
        operation: str,
        send: Callable[[Session, float], Awaitable[Answer]],
        deadline_s: float,
        repeatable: bool,
        suspicious_s: float,
    ) -> Answer:
        session = await self.connection.session(deadline_s - time.monotonic())
        token = session.token
        sent_s = time.monotonic()
        left_s = deadline_s - sent_s
        attempt_s = min(left_s, max(_ATTEMPT_S, left_s / 2)) if repeatable else left_s
        try:
            answer = await self._counted(operation, send(session, attempt_s))
        except EtcdLoginNeededError:
            await self.connection.login.renew(token, deadline_s - time.monotonic())
            raise
        except EtcdUnavailableError as error:
            patient = time.monotonic() - sent_s >= suspicious_s
            if patient or not isinstance(error, EtcdTimeoutError):
                self.connection.failed(session, error)
            raise
        except EtcdError:
            self.connection.succeeded()
            raise
        self.connection.succeeded()
        return answer

    async def _counted(self, operation: str, answer: Awaitable[Answer]) -> Answer:
        error: BaseException | None = None
        began_ns = time.perf_counter_ns()
        try:
            return await answer
        except BaseException as caught:
            error = caught
            raise
        finally:
            self.calls.ended(operation, time.perf_counter_ns() - began_ns, error)


def _name(message: Any) -> str:
    """etcd's for the request."""
    name: str = message.DESCRIPTOR.name
    return name.removesuffix("Request")


def _unary(method: Callable[[Session], Any], message: Any) -> Callable[[Session, float], Awaitable[Any]]:
    def send(session: Session, attempt_s: float) -> Awaitable[Any]:
        return session.call(method(session), message, attempt_s)

    return send
