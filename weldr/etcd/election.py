"""Elections by the recipe of etcd's own concurrency package, written with transactions.

A candidate has a lease, and one key `<prefix><lease id in hex>` under it. The queue is the order of creation:
whose key has the lowest create revision leads. So `etcdctl elect --listen` names the leader, and whoever uses
`etcdctl elect` or `etcdctl lock` on the same prefix stands in the same queue.

What the recipe leaves open is decided here:

- The create revision of the leader's key is its *token*: it grows with every leadership, and every write made
  as leader compares it.
- A renewal that etcd reports as done is believed only together with a read of the key behind it, since servers
  before 3.5.23 renew leases that were revoked. Both together are one confirmation, and it counts from before
  the renewal was sent.
- Nor is it believed when etcd's raft term changed between the renewal and that read. A leader that is cut off
  and does not know yet that there is another one renews leases which the other one lets expire.
- A candidate whose renewals fail does not know that it lost. It goes on trying with the lease that it has, and
  only etcd's word ends the candidacy: after an outage without a change of leader, the same one leads.
- Every request can be repeated. What became of one whose answer was lost is told by the next confirmation.

The recipe has each candidate watch the one before it, so that a departure wakes one and not all. An instance of
weldr already watches the whole prefix once, for everything; that wakes it here, too, and `confirm` then
decides."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

from weldr.etcd.answers import Header, RangeResult, TransactionResult
from weldr.etcd.client import Compare, Delete, EtcdClient, Put, Read, prefix_end
from weldr.etcd.clock import now_s
from weldr.etcd.errors import EtcdError, EtcdLeaseNotFoundError
from weldr.etcd.follow import Follower, Snapshot
from weldr.etcd.operations import Operation
from weldr.model.events import KeyValue

_QUEUE_LIMIT = 1000
_OPERATION_TIMEOUT_S = 1.0


class CandidacyLostError(EtcdError):
    """The candidate's key is gone: its lease ended, or somebody deleted the key."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the candidacy is lost: {reason}")


class StaleRenewalError(EtcdError):
    """The renewal may have been made by a leader that was none any more."""

    maybe_applied = True

    def __init__(self, before: int, after: int) -> None:
        super().__init__(f"etcd elected another leader meanwhile (raft term {before}, then {after})")


@dataclass(frozen=True, slots=True)
class Contender:
    """One candidate's key."""

    key: bytes
    value: bytes
    token: int
    """The key's create revision: its place in the queue, and its fencing token when it leads."""
    lease: int

    @staticmethod
    def of(pair: KeyValue) -> Contender:
        """From the key as etcd returns it."""
        return Contender(pair.key, pair.value, pair.create_revision, pair.lease)


def queue_of(pairs: Iterable[KeyValue]) -> tuple[Contender, ...]:
    """The candidates in order; the first leads."""
    return tuple(sorted(map(Contender.of, pairs), key=lambda contender: contender.token))


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What etcd said of the candidacy, all of one revision."""

    sent_s: float
    """When the renewal was sent, by `now_s`. The lease ends no earlier than its time to live after this, and
    the key was there at some later moment."""
    deadline_s: float
    """Until when the lease lives without another renewal, by what etcd granted."""
    token: int
    queue: tuple[Contender, ...]
    """Its first thousand: all that there are, unless somebody else put them there."""
    held: bool
    """Whether the caller's comparisons held, and its operations were done."""
    read: tuple[KeyValue | None, ...]
    """The keys that the caller wanted to know, in its order, after its operations."""
    header: Header

    @property
    def leads(self) -> bool:
        """Whether nobody stands before us."""
        return bool(self.queue) and self.queue[0].token == self.token


class Candidate:
    """One candidacy. Not for several tasks at a time."""

    def __init__(self, client: EtcdClient, prefix: bytes, value: bytes, ttl_s: int) -> None:
        """`prefix` ends with a slash. `value` is what observers read, such as the candidate's name."""
        self._client = client
        self._prefix = prefix
        self._value = value
        self._ttl_s = ttl_s
        self.lease_id: int | None = None
        self.granted_ttl_s = 0
        self.token: int | None = None
        """`None` while it does not stand."""

    @property
    def key(self) -> bytes:
        """The candidate's key, once it has a lease."""
        return self.key_of(self.lease_id or 0)

    def key_of(self, lease_id: int) -> bytes:
        """The key of whoever stands with this lease."""
        return self._prefix + f"{lease_id:x}".encode()

    def adopt(self, lease_id: int, granted_ttl_s: int, token: int) -> None:
        """Go on with a candidacy that somebody else has begun and left to us. `confirm` tells whether it is
        still there."""
        self.lease_id, self.granted_ttl_s, self.token = lease_id, granted_ttl_s, token

    async def stand(self, *, timeout_s: float = _OPERATION_TIMEOUT_S) -> None:
        """Join the queue at its end; if it is in it already, nothing changes.

        Raises `EtcdError`.
        """
        if self.lease_id is None:
            lease = await self._client.grant_lease(self._ttl_s, timeout_s=timeout_s)
            self.lease_id, self.granted_ttl_s = lease.id, lease.ttl_s
        try:
            result = await self._client.transaction(
                [Compare.create_revision(self.key, "==", 0)],
                [Put(self.key, self._value, self.lease_id)],
                [Read(self.key)],
                timeout_s=timeout_s,
            )
        except EtcdLeaseNotFoundError:
            self._forget()
            raise
        if result.succeeded:
            self.token = result.header.revision
        else:
            self.token = _found(result, 0)[0].create_revision

    async def confirm(
        self,
        compares: Sequence[Compare] = (),
        operations: Sequence[Operation] = (),
        reads: Sequence[bytes] = (),
        *,
        timeout_s: float = _OPERATION_TIMEOUT_S,
    ) -> Confirmation:
        """Renew, and make sure that the key is there; do `operations` if it is and `compares` hold.

        Raises `CandidacyLostError`, after which `stand` begins anew, and `EtcdError` when it is not known.
        """
        token, lease_id = self.token, self.lease_id
        if token is None or lease_id is None:
            raise CandidacyLostError("it does not stand")
        sent_s = now_s()
        try:
            lease = await self._client.renew_lease(lease_id, timeout_s=timeout_s)
        except EtcdLeaseNotFoundError:
            self._forget()
            raise CandidacyLostError("its lease ended") from None
        looks: list[Operation] = [
            Read(self._prefix, prefix_end(self._prefix), _QUEUE_LIMIT, oldest_first=True),
            *map(Read, (self.key, *reads)),
        ]
        result = await self._client.transaction(
            [Compare.create_revision(self.key, "==", token), *compares],
            [*operations, *looks],
            looks,
            timeout_s=timeout_s,
        )
        if lease.header.raft_term != result.header.raft_term:
            raise StaleRenewalError(lease.header.raft_term, result.header.raft_term)
        first = len(operations) if result.succeeded else 0
        mine = _one(result, first + 1)
        if mine is None or mine.create_revision != token:
            self.token = None
            raise CandidacyLostError("its key was deleted")
        return Confirmation(
            sent_s=sent_s,
            deadline_s=sent_s + lease.ttl_s,
            token=token,
            queue=queue_of(_found(result, first)),
            held=result.succeeded,
            read=tuple(_one(result, first + 2 + index) for index in range(len(reads))),
            header=result.header,
        )

    async def withdraw(
        self,
        compares: Sequence[Compare] = (),
        operations: Sequence[Operation] = (),
        *,
        timeout_s: float = _OPERATION_TIMEOUT_S,
    ) -> None:
        """Leave the queue, the lease stays; do `operations` in the same instant if `compares` hold.

        Raises `EtcdError` when it is not known whether the key is gone; then it can be repeated.
        """
        token = self.token
        if token is None or self.lease_id is None:
            return
        mine = Compare.create_revision(self.key, "==", token)
        done = await self._client.transaction(
            [mine, *compares], [*operations, Delete(self.key)], timeout_s=timeout_s
        )
        if not done.succeeded:
            await self._client.transaction([mine], [Delete(self.key)], timeout_s=timeout_s)
        self.token = None

    async def close(self, *, timeout_s: float = _OPERATION_TIMEOUT_S) -> None:
        """Leave for good; if etcd cannot be asked, the lease and the key expire."""
        lease_id = self.lease_id
        self._forget()
        if lease_id is not None:
            with contextlib.suppress(EtcdError):
                await self._client.revoke_lease(lease_id, timeout_s=timeout_s)

    def _forget(self) -> None:
        self.lease_id = self.token = None


async def unseat(
    client: EtcdClient,
    contender: Contender,
    compares: Sequence[Compare],
    operations: Sequence[Operation] = (),
    *,
    timeout_s: float = _OPERATION_TIMEOUT_S,
) -> bool:
    """Delete another candidate's key and do `operations`, if it is still that candidacy and `compares` hold;
    whether it was so.

    Its lease stays: by it, whoever comes next can tell this from a key that expired.
    """
    result = await client.transaction(
        [Compare.create_revision(contender.key, "==", contender.token), *compares],
        [Delete(contender.key), *operations],
        timeout_s=timeout_s,
    )
    return result.succeeded


async def lease_idle_s(
    client: EtcdClient, lease_id: int, after: Header, *, timeout_s: float = _OPERATION_TIMEOUT_S
) -> float:
    """For how long, at least, nobody has renewed a lease, by etcd's clock; 0 if that is not known.

    `after` is of a transaction that was answered before: only the leader that did that one, asked by the same
    member, is certain to know of all renewals before it. Each later leader starts all leases anew.

    Raises `EtcdError`.
    """
    found = await client.time_to_live(lease_id, timeout_s=timeout_s)
    if (found.header.member_id, found.header.raft_term) != (after.member_id, after.raft_term):
        return 0.0
    # etcd cuts the seconds off what is left.
    return float(max(0, found.granted_ttl_s - found.left_s - 1))


async def lease_is_gone(client: EtcdClient, lease_id: int, *, timeout_s: float = _OPERATION_TIMEOUT_S) -> bool:
    """Whether etcd no longer has a lease: its key went with it and was not deleted by hand."""
    try:
        await client.time_to_live(lease_id, timeout_s=timeout_s)
    except EtcdLeaseNotFoundError:
        return True
    return False


async def leaders(client: EtcdClient, prefix: bytes) -> AsyncGenerator[Contender | None, None]:
    """Who leads, first now and then at every change; `None` when nobody stands. Ends only with the client."""
    pairs: dict[bytes, KeyValue] = {}
    told: Contender | None = None
    first = True
    async with contextlib.aclosing(Follower(client, prefix).batches()) as batches:
        async for changes in batches:
            for change in changes:
                if isinstance(change, Snapshot):
                    pairs = {pair.key: pair for pair in change.key_values}
                    continue
                for event in change.events:
                    if event.deleted:
                        pairs.pop(event.key_value.key, None)
                    else:
                        pairs[event.key_value.key] = event.key_value
            queue = queue_of(pairs.values())
            leader = queue[0] if queue else None
            if first or leader != told:
                first, told = False, leader
                yield leader


def _found(result: TransactionResult, index: int) -> tuple[KeyValue, ...]:
    response = result.responses[index]
    assert isinstance(response, RangeResult)
    return response.key_values


def _one(result: TransactionResult, index: int) -> KeyValue | None:
    found = _found(result, index)
    return found[0] if found else None
