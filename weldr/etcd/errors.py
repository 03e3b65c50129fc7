"""How requests to etcd fail, in the only terms that a caller can act on.

The question that decides everything is whether a request may have had its effect. `maybe_applied` is False only
where that is known: the request never left, or etcd refused it before applying anything.
"""

from __future__ import annotations

from typing import Any

import grpc

_LOGIN_AGAIN = (
    # etcd forgot the token: it idled out, or the member restarted.
    "etcdserver: invalid auth token",
    # Somebody changed users or roles since the login.
    "etcdserver: revision of auth store is old",
    # Authentication was enabled after we found that it was not.
    "etcdserver: user name is empty",
)

# Said by etcd before a request is proposed to the cluster, or by gRPC before it has a connection to send it on.
_NOT_APPLIED = (
    "failed to connect to all addresses",
    "etcdserver: no leader",
    "etcdserver: not capable",
    "etcdserver: rpc not supported for learner",
    "etcdserver: too many requests",
)

# Said by a good member in a bad moment: another one would say the same.
_NOT_THE_MEMBERS_FAULT = ("etcdserver: leader changed", "etcdserver: too many requests")


class EtcdError(Exception):
    """A request to etcd failed. The message is one line."""

    maybe_applied = False


class EtcdUnavailableError(EtcdError):
    """No answer could be had: no connection, a lost one, or a member without a leader."""

    def __init__(
        self, reason: str, *, endpoint: str, maybe_applied: bool = True, member_at_fault: bool = True
    ) -> None:
        self.reason = reason
        self.endpoint = endpoint
        self.maybe_applied = maybe_applied
        self.member_at_fault = member_at_fault
        super().__init__(f"etcd at {endpoint} is unavailable: {reason}")


class EtcdTimeoutError(EtcdUnavailableError):
    """etcd did not answer in time."""


class EtcdAuthError(EtcdError):
    """etcd knows us and refuses: wrong password, or no permission. Trying again soon would change nothing."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"etcd refuses this user: {reason}")


class EtcdLoginNeededError(EtcdAuthError):
    """The token is no longer good; the request was not applied. Handled by the client, with a new login."""


class EtcdCompactedError(EtcdError):
    """The history from the wanted revision on is gone. `compact_revision` is 0 where etcd does not say."""

    def __init__(self, compact_revision: int = 0) -> None:
        self.compact_revision = compact_revision
        super().__init__(f"the wanted revision was compacted (compact revision {compact_revision})")


class EtcdFutureRevisionError(EtcdError):
    """The wanted revision does not exist yet: this is not the etcd that it came from, or an older copy."""

    def __init__(self) -> None:
        super().__init__("the wanted revision is in etcd's future: was etcd restored from an older copy?")


class EtcdOtherClusterError(EtcdError):
    """What answers now is not the cluster that answered before."""

    def __init__(self) -> None:
        super().__init__("another cluster answers than before: was etcd replaced?")


class EtcdLeaseNotFoundError(EtcdError):
    """The lease expired or was revoked."""

    def __init__(self, lease_id: int = 0) -> None:
        self.lease_id = lease_id
        super().__init__(f"the lease {lease_id:x} does not exist" if lease_id else "the lease does not exist")


class EtcdAnswerTooLargeError(EtcdError):
    """The answer is larger than the client takes in one message: ask for less."""

    def __init__(self) -> None:
        super().__init__("etcd's answer is too large for one message: read it in smaller pages")


class EtcdRefusedError(EtcdError):
    """etcd understood the request and will not do it."""

    def __init__(self, reason: str, code: str) -> None:
        self.reason = reason
        self.code = code
        super().__init__(f"etcd refused the request: {reason}")


class EtcdClosedError(EtcdError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("the etcd client is closed")


def from_grpc(code: Any, details: str | None, endpoint: str) -> EtcdError:
    """The error for a status that came from gRPC or etcd."""
    text = " ".join((details or "no reason given").split())
    if any(words in text for words in _LOGIN_AGAIN):
        return EtcdLoginNeededError(text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return EtcdTimeoutError("no answer in time", endpoint=endpoint)
    if code is grpc.StatusCode.OUT_OF_RANGE and "has been compacted" in text:
        return EtcdCompactedError()
    if code is grpc.StatusCode.OUT_OF_RANGE and "future revision" in text:
        return EtcdFutureRevisionError()
    if code is grpc.StatusCode.NOT_FOUND and "lease not found" in text:
        return EtcdLeaseNotFoundError()
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "Received message larger than max" in text:
        return EtcdAnswerTooLargeError()
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED) or (
        "authentication failed" in text
    ):
        return EtcdAuthError(text)
    if code in _TRANSIENT or "too many requests" in text:
        return EtcdUnavailableError(
            text,
            endpoint=endpoint,
            maybe_applied=not text.startswith(_NOT_APPLIED),
            member_at_fault=not text.startswith(_NOT_THE_MEMBERS_FAULT),
        )
    return EtcdRefusedError(text, code.name)


_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DATA_LOSS,
)
