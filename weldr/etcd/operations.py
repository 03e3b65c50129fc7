"""What a transaction is made of: comparisons, and what to do in either case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from weldr.etcd.protocol import rpc

Operator = Literal["==", "!=", "<", ">"]

_RESULTS = {
    "==": rpc.Compare.EQUAL,
    "!=": rpc.Compare.NOT_EQUAL,
    "<": rpc.Compare.LESS,
    ">": rpc.Compare.GREATER,
}
_TARGETS = {
    "create_revision": rpc.Compare.CREATE,
    "mod_revision": rpc.Compare.MOD,
    "version": rpc.Compare.VERSION,
    "value": rpc.Compare.VALUE,
    "lease": rpc.Compare.LEASE,
}


@dataclass(frozen=True, slots=True)
class Compare:
    """`key`'s `field` against a value. A missing key has 0 in every number, and matches no value.

    With a `range_end` it has to hold for each key from `key` up to but not including that one.
    """

    key: bytes
    field: str
    operator: Operator
    operand: int | bytes
    range_end: bytes = b""

    @staticmethod
    def create_revision(key: bytes, operator: Operator, revision: int) -> Compare:
        """With 0: whether the key exists."""
        return Compare(key, "create_revision", operator, revision)

    @staticmethod
    def mod_revision(key: bytes, operator: Operator, revision: int) -> Compare:
        """Whether the key was changed since."""
        return Compare(key, "mod_revision", operator, revision)

    @staticmethod
    def nothing_put_since(prefix: bytes, revision: int) -> Compare:
        """Whether no key that begins with `prefix` was put after that revision. One may have been deleted."""
        return Compare(prefix, "mod_revision", "<", revision + 1, prefix_end(prefix))

    @staticmethod
    def version(key: bytes, operator: Operator, version: int) -> Compare:
        """How often the key was put since it was created."""
        return Compare(key, "version", operator, version)

    @staticmethod
    def value(key: bytes, operator: Operator, value: bytes) -> Compare:
        """The key's value, byte by byte."""
        return Compare(key, "value", operator, value)

    @staticmethod
    def lease(key: bytes, operator: Operator, lease_id: int) -> Compare:
        """Under which lease the key is."""
        return Compare(key, "lease", operator, lease_id)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key."""

    key: bytes
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, or all from it up to but not including `range_end`."""

    key: bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class Read:
    """Read a key, or all from it up to but not including `range_end`."""

    key: bytes
    range_end: bytes = b""
    limit: int = 0
    oldest_first: bool = False
    """Which ones are within the limit: those created first, or those that come first by their names."""


Operation = Put | Delete | Read


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all keys that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    if not stem:
        return b"\0"  # etcd's word for "no end"
    return stem[:-1] + bytes([stem[-1] + 1])


def transaction_request(
    compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation]
) -> Any:
    """The message for etcd."""
    return rpc.TxnRequest(
        compare=[_compare(compare) for compare in compares],
        success=[_operation(operation) for operation in success],
        failure=[_operation(operation) for operation in failure],
    )


def _compare(compare: Compare) -> Any:
    return rpc.Compare(
        key=compare.key,
        range_end=compare.range_end,
        target=_TARGETS[compare.field],
        result=_RESULTS[compare.operator],
        **{compare.field: compare.operand},
    )


def _operation(operation: Operation) -> Any:
    match operation:
        case Put(key, value, lease):
            return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))
        case Delete(key, range_end):
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=range_end))
        case Read(key, range_end, limit, oldest_first):
            order = rpc.RangeRequest.CREATE if oldest_first else rpc.RangeRequest.KEY
            request = rpc.RangeRequest(key=key, range_end=range_end, limit=limit, sort_target=order)
            if oldest_first:
                request.sort_order = rpc.RangeRequest.ASCEND
            return rpc.RequestOp(request_range=request)
