"""etcd's answers as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weldr.etcd.protocol import kv
from weldr.model.events import Event, KeyValue


@dataclass(frozen=True, slots=True)
class Header:
    """Who answered, and from which state."""

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


@dataclass(frozen=True, slots=True)
class RangeResult:
    """`count` is of all keys in the range; `more` tells that `limit` left some out."""

    header: Header
    key_values: tuple[KeyValue, ...]
    more: bool
    count: int


@dataclass(frozen=True, slots=True)
class PrefixRead:
    """All keys under a prefix as they were at `revision`, or a page of them."""

    header: Header
    revision: int
    key_values: tuple[KeyValue, ...]


@dataclass(frozen=True, slots=True)
class PutResult:
    """A key was written."""

    header: Header


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """`deleted` keys are gone."""

    header: Header
    deleted: int


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """`succeeded` tells whether the comparisons held; `responses` are to the operations of that case."""

    header: Header
    succeeded: bool
    responses: tuple[PutResult | DeleteResult | RangeResult, ...]

    @property
    def wrote(self) -> bool:
        """Whether it made a revision: one that only deletes what is not there does not."""
        return any(
            isinstance(response, PutResult) or (isinstance(response, DeleteResult) and response.deleted > 0)
            for response in self.responses
        )


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """A lease. `deadline_s`, of the monotonic clock, is when etcd may let it expire at the earliest.

    It counts from before the request was sent: etcd cannot have begun to count any earlier.
    """

    id: int
    ttl_s: int
    deadline_s: float
    header: Header


@dataclass(frozen=True, slots=True)
class LeaseTimeToLive:
    """What is left of a lease."""

    id: int
    granted_ttl_s: int
    left_s: int
    header: Header


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member's word about itself. `leader` is 0 while it knows of none."""

    header: Header
    version: str
    leader: int
    is_learner: bool


def header_of(message: Any) -> Header:
    header = message.header
    return Header(header.cluster_id, header.member_id, header.revision, header.raft_term)


def key_value_of(pair: Any) -> KeyValue:
    return KeyValue(pair.key, pair.value, pair.create_revision, pair.mod_revision, pair.lease)


def event_of(event: Any) -> Event:
    return Event(key_value_of(event.kv), event.type == kv.Event.DELETE)


def range_of(message: Any) -> RangeResult:
    pairs = tuple(key_value_of(pair) for pair in message.kvs)
    return RangeResult(header_of(message), pairs, message.more, message.count)


def delete_of(message: Any) -> DeleteResult:
    return DeleteResult(header_of(message), message.deleted)


def put_of(message: Any) -> PutResult:
    return PutResult(header_of(message))


_RESPONSES: dict[str, Callable[[Any], PutResult | DeleteResult | RangeResult]] = {
    "response_put": put_of,
    "response_delete_range": delete_of,
    "response_range": range_of,
}


def transaction_of(message: Any) -> TransactionResult:
    responses = []
    for response in message.responses:
        kind = response.WhichOneof("response")
        responses.append(_RESPONSES[kind](getattr(response, kind)))
    return TransactionResult(header_of(message), message.succeeded, tuple(responses))
