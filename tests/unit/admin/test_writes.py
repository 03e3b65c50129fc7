"""Writes of the API that others get in the way of."""

from __future__ import annotations

from typing import Any, cast

import pytest

from weldr.control.admin.guard import Caller
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.problem import ProblemError
from weldr.control.admin.tokens import Role
from weldr.control.admin.writes import Writes
from weldr.etcd.answers import Header, LeaseGrant, TransactionResult
from weldr.etcd.client import EtcdClient
from weldr.model.keys import KeyName, KeySpace, Kind

_HEADER = Header(1, 1, 1, 1)


class _Contended:
    """etcd, in which somebody else always wins."""

    def __init__(self) -> None:
        self.leases: set[int] = set()
        self.granted = 0

    async def get(self, key: bytes) -> None:
        return None

    async def grant_lease(self, ttl_s: int) -> LeaseGrant:
        self.granted += 1
        self.leases.add(self.granted)
        return LeaseGrant(self.granted, ttl_s, 0.0, _HEADER)

    async def revoke_lease(self, lease_id: int) -> None:
        self.leases.discard(lease_id)

    async def transaction(self, *parts: Any) -> TransactionResult:
        return TransactionResult(_HEADER, False, ())


async def test_a_registration_that_others_always_get_in_the_way_of_leaves_no_lease_behind() -> None:
    etcd = _Contended()
    keys = KeySpace("/weldr/")
    client = cast(EtcdClient, etcd)
    writes = Writes(client, keys, Mirror(keys, lambda news: None), lambda revision: None)
    name = KeyName(Kind.BACKEND, ("shop", "b1"))
    with pytest.raises(ProblemError, match="at the same time"):
        await writes.register(name, b"127.0.0.1:1", 3600, Caller("a", "b", Role.WRITE), lambda revision: None)
    assert (etcd.granted, etcd.leases) == (1, set())
