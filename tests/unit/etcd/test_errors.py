"""From gRPC's and etcd's words to what a caller can act on."""

from __future__ import annotations

import grpc
import pytest

from weldr.etcd import errors
from weldr.etcd.errors import EtcdUnavailableError, from_grpc

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", errors.EtcdLoginNeededError),
        (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", errors.EtcdLoginNeededError),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", errors.EtcdLoginNeededError),
        (
            Code.INVALID_ARGUMENT,
            "etcdserver: authentication failed, invalid user ID or password",
            errors.EtcdAuthError,
        ),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", errors.EtcdAuthError),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision has been compacted",
            errors.EtcdCompactedError,
        ),
        (
            Code.OUT_OF_RANGE,
            "etcdserver: mvcc: required revision is a future revision",
            errors.EtcdFutureRevisionError,
        ),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", errors.EtcdLeaseNotFoundError),
        (
            Code.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (9 vs. 8)",
            errors.EtcdAnswerTooLargeError,
        ),
        (Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (9 vs. 8)", errors.EtcdRefusedError),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", errors.EtcdRefusedError),
        (Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request", errors.EtcdRefusedError),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.EtcdTimeoutError),
        (Code.UNAVAILABLE, "Socket closed", EtcdUnavailableError),
        (Code.UNKNOWN, None, EtcdUnavailableError),
    ],
)
def test_a_status_becomes_the_error_for_it(
    code: grpc.StatusCode, details: str | None, expected: type[Exception]
) -> None:
    error = from_grpc(code, details, "http://a")
    assert type(error) is expected
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("details", "maybe_applied", "member_at_fault"),
    [
        ("Socket closed", True, True),
        ("etcdserver: request timed out, possibly due to previous leader failure", True, True),
        ("etcdserver: server stopped", True, True),
        ("etcdserver: no leader", False, True),
        ("failed to connect to all addresses; last error: refused", False, True),
        ("etcdserver: leader changed", True, False),
        ("etcdserver: too many requests", False, False),
    ],
)
def test_only_what_is_certain_not_to_be_applied_may_be_sent_again(
    details: str, maybe_applied: bool, member_at_fault: bool
) -> None:
    error = from_grpc(Code.UNAVAILABLE, details, "http://a")
    assert isinstance(error, EtcdUnavailableError)
    assert (error.maybe_applied, error.member_at_fault) == (maybe_applied, member_at_fault)
