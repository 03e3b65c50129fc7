"""Leases: kept, lost in every way, and got again; never thought alive past their deadline."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.integration.etcd.recording import connect, member_in_use, until
from tests.support.etcd import EtcdCluster, EtcdServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError, EtcdLeaseNotFoundError
from weldr.etcd.lease import LeaseKeeper


class Owner:
    """Puts one key under its lease, and remembers what it is told."""

    def __init__(self, client: EtcdClient, key: bytes, ttl_s: int) -> None:
        self.granted: list[int] = []
        self.lost: list[str] = []
        self.failures_left = 0
        self._client = client
        self._key = key
        self.keeper = LeaseKeeper(client, ttl_s, on_granted=self._put, on_lost=self.lost.append, name="test")

    async def _put(self, lease_id: int) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise EtcdError("the test says so")
        await self._client.put(self._key, b"here", lease=lease_id)
        self.granted.append(lease_id)

    async def __aenter__(self) -> Owner:
        await self.keeper.start()
        await until(lambda: self.granted, "the key is put")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.keeper.close(revoke=True)


@pytest.mark.real_time
async def test_a_lease_outlives_its_time_and_its_keys_go_with_the_owner(
    client: EtcdClient, etcd_prefix: str
) -> None:
    key = etcd_prefix.encode()
    async with Owner(client, key, 2) as owner:
        first_deadline_s = owner.keeper.deadline_s
        assert first_deadline_s is not None
        await until(lambda: time.monotonic() > first_deadline_s + 1, "its first deadline is past")
        assert owner.keeper.alive
        found = await client.get(key)
        assert found is not None
        assert found.lease == owner.keeper.lease_id
        assert found.mod_revision == found.create_revision, "keeping it alive writes nothing"
        assert (len(owner.granted), owner.lost) == (1, [])
    assert await client.get(key) is None
    assert owner.lost == [], "leaving is not losing"


@pytest.mark.real_time
async def test_a_lease_that_is_left_without_revoking_stays_until_it_expires(
    client: EtcdClient, etcd_prefix: str
) -> None:
    key = etcd_prefix.encode()
    owner = Owner(client, key, 2)
    await owner.keeper.start()
    await until(lambda: owner.granted, "the key is put")
    lease_id = owner.granted[0]
    await owner.keeper.close(revoke=False)
    assert (await client.time_to_live(lease_id)).left_s >= 0
    pair = await client.get(key)
    assert pair is not None
    assert pair.lease == lease_id
    for _ in range(400):
        if await client.get(key) is None:
            break
        await asyncio.sleep(0.05)
    assert await client.get(key) is None
    with pytest.raises(EtcdLeaseNotFoundError):
        await client.renew_lease(lease_id)


async def test_a_revoked_lease_is_noticed_and_the_key_is_put_again(
    client: EtcdClient, each_etcd: EtcdServer, etcd_prefix: str
) -> None:
    key = etcd_prefix.encode()
    async with Owner(client, key, 20) as owner:
        await asyncio.to_thread(each_etcd.etcdctl, "lease", "revoke", f"{owner.granted[0]:x}")
        await until(lambda: owner.lost, "the loss is told")
        await until(lambda: len(owner.granted) == 2, "the key is put again")
        found = await client.get(key)
        assert found is not None
        assert found.lease == owner.granted[1] == owner.keeper.lease_id
        assert "revoked" in owner.lost[0]
        assert len(owner.lost) == 1


async def test_a_renewal_of_a_lost_lease_says_so(client: EtcdClient) -> None:
    lease = await client.grant_lease(60)
    assert (await client.renew_lease(lease.id)).id == lease.id
    await client.revoke_lease(lease.id)
    # Twice: it may be gone already.
    await client.revoke_lease(lease.id)
    for request in (client.renew_lease, client.time_to_live):
        with pytest.raises(EtcdLeaseNotFoundError) as failure:
            await request(lease.id)
        assert failure.value.lease_id == lease.id


@pytest.mark.real_time
async def test_an_outage_longer_than_the_lease_ends_it_at_its_own_deadline(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Owner(client, b"a", 2) as owner:
        await asyncio.to_thread(own_etcd.kill)
        deadline_s = owner.keeper.deadline_s
        assert deadline_s is not None
        await until(lambda: owner.lost, "the loss is told")
        assert -0.1 < time.monotonic() - deadline_s < 1.0
        assert owner.keeper.lease_id is None
        await asyncio.to_thread(own_etcd.start)
        await until(lambda: len(owner.granted) == 2, "the key is put again")
        found = await client.get(b"a")
        assert found is not None
        assert found.lease == owner.granted[1]


@pytest.mark.real_time
async def test_a_frozen_etcd_ends_a_lease_at_its_own_deadline(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Owner(client, b"a", 2) as owner:
        own_etcd.freeze()
        await until(lambda: owner.lost, "the loss is told")
        assert not owner.keeper.alive
        own_etcd.thaw()
        await until(lambda: len(owner.granted) == 2, "the key is put again")
        assert len(owner.lost) == 1


@pytest.mark.real_time
async def test_a_frozen_member_of_three_costs_no_lease(own_cluster: EtcdCluster) -> None:
    async with connect(own_cluster.endpoints) as client, Owner(client, b"a", 6) as owner:
        frozen = member_in_use(own_cluster, client)
        frozen.freeze()
        took_s = await until(
            lambda: client.connection.endpoint not in (None, frozen.endpoint), "another member is used"
        )
        print(f"a renewal moved on after {took_s:.2f} s")
        assert took_s < 6
        await asyncio.sleep(max(0.0, 6.5 - took_s))
        assert (len(owner.granted), owner.lost) == (1, [])
        frozen.thaw()


async def test_a_lease_is_not_thought_alive_after_this_process_stood_still(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Owner(client, b"a", 2) as owner:
        time.sleep(2.1)  # noqa: ASYNC251 - the standstill is what is tested
        # Before the keeper has had a chance to run.
        assert not owner.keeper.alive
        assert owner.keeper.lease_id is None
        await until(lambda: len(owner.granted) == 2, "the key is put again")


@pytest.mark.real_time
async def test_the_deadline_counts_from_before_the_request_was_sent(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        await client.get(b"a")
        own_etcd.freeze()
        sent_s = time.monotonic()
        granting = asyncio.create_task(client.grant_lease(10))
        await asyncio.sleep(0.7)
        own_etcd.thaw()
        lease = await granting
        assert time.monotonic() - sent_s > 0.7
        assert lease.deadline_s - lease.ttl_s < sent_s + 0.3


async def test_putting_the_keys_is_tried_until_it_succeeds(client: EtcdClient, etcd_prefix: str) -> None:
    owner = Owner(client, etcd_prefix.encode(), 20)
    owner.failures_left = 3
    async with owner:
        assert owner.failures_left == 0
        assert (len(owner.granted), owner.lost) == (1, [])


async def test_a_short_time_to_live_is_raised_by_etcd_and_counted_as_etcd_does(client: EtcdClient) -> None:
    lease = await client.grant_lease(1)
    assert lease.ttl_s == 2
