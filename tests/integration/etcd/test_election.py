"""Elections on real etcd servers, in one queue with etcdctl's own candidates."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import subprocess
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.etcd.recording import LIMIT_S, until
from tests.support.etcd import EtcdServer
from weldr.etcd.answers import LeaseGrant
from weldr.etcd.client import Compare, Delete, EtcdClient, Put, prefix_end
from weldr.etcd.clock import now_s
from weldr.etcd.config import EtcdConfig
from weldr.etcd.election import (
    CandidacyLostError,
    Candidate,
    Confirmation,
    Contender,
    StaleRenewalError,
    leaders,
    lease_idle_s,
    lease_is_gone,
    unseat,
)

TTL_S = 20
"""No candidate is to lose its lease while a busy machine keeps it from running."""


class Patient(Candidate):
    """A candidate that waits for etcd's answers longer than a virtual IP could."""

    async def stand(self, *, timeout_s: float = LIMIT_S) -> None:
        await super().stand(timeout_s=timeout_s)

    async def confirm(self, *arguments: Any, timeout_s: float = LIMIT_S) -> Confirmation:
        return await super().confirm(*arguments, timeout_s=timeout_s)

    async def withdraw(self, *arguments: Any, timeout_s: float = LIMIT_S) -> None:
        await super().withdraw(*arguments, timeout_s=timeout_s)

    async def close(self, *, timeout_s: float = LIMIT_S) -> None:
        await super().close(timeout_s=timeout_s)


class Etcdctl:
    """`etcdctl` as a program that goes on running, with the lines that it has printed."""

    def __init__(self, etcd: EtcdServer, *arguments: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [str(etcd.binary.etcdctl), f"--endpoints={etcd.endpoint}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"ETCDCTL_API": "3"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Etcdctl:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reader.join(30)


@pytest.fixture
def prefix(etcd_prefix: str) -> bytes:
    return f"{etcd_prefix}elections/web/".encode()


@contextlib.asynccontextmanager
async def standing(
    client: EtcdClient, prefix: bytes, name: str, ttl_s: int = TTL_S
) -> AsyncIterator[Candidate]:
    candidate = Patient(client, prefix, name.encode(), ttl_s)
    try:
        await candidate.stand()
        yield candidate
    finally:
        await candidate.close()


async def test_who_stands_first_leads_and_the_next_one_follows(client: EtcdClient, prefix: bytes) -> None:
    async with standing(client, prefix, "a") as first, standing(client, prefix, "b") as second:
        confirmation = await first.confirm()
        assert confirmation.leads
        assert [contender.value for contender in confirmation.queue] == [b"a", b"b"]
        assert not (await second.confirm()).leads
        await first.withdraw()
        assert (await second.confirm()).leads
        with pytest.raises(CandidacyLostError):
            await first.confirm()
        await first.stand()
        again = await first.confirm()
        assert not again.leads, "it stands at the end of the queue"
        assert again.token > confirmation.token


async def test_a_deadline_counts_from_before_the_renewal(client: EtcdClient, prefix: bytes) -> None:
    async with standing(client, prefix, "a") as candidate:
        before_s = now_s()
        confirmation = await candidate.confirm()
        assert before_s <= confirmation.sent_s <= now_s()
        assert confirmation.deadline_s == confirmation.sent_s + TTL_S


async def test_standing_twice_is_standing_once(client: EtcdClient, prefix: bytes) -> None:
    async with standing(client, prefix, "a") as candidate:
        token = candidate.token
        await candidate.stand()
        assert candidate.token == token


async def test_a_write_as_leader_is_done_with_the_token_or_not_at_all(
    client: EtcdClient, prefix: bytes
) -> None:
    record = prefix + b"../record"
    async with standing(client, prefix, "a") as candidate:
        new = [Compare.mod_revision(record, "==", 0)]
        done = await candidate.confirm(new, [Put(record, b"mine")], [record])
        assert done.held
        assert done.read[0] is not None
        assert done.read[0].value == b"mine"
        refused = await candidate.confirm(new, [Put(record, b"again")], [record])
        assert not refused.held
        assert refused.read[0] is not None
        assert refused.read[0].value == b"mine"
        await client.delete(candidate.key)
        with pytest.raises(CandidacyLostError):
            await candidate.confirm((), [Put(record, b"too late")])
        found = await client.get(record)
        assert found is not None
        assert found.value == b"mine"
    await client.delete(record)


async def test_a_renewal_is_not_believed_without_the_key(client: EtcdClient, prefix: bytes) -> None:
    async with standing(client, prefix, "a") as candidate:
        lease_id = candidate.lease_id
        await client.delete(candidate.key)
        with pytest.raises(CandidacyLostError, match="deleted"):
            await candidate.confirm()
        await candidate.stand()
        assert candidate.lease_id == lease_id, "the lease is still good"
        assert (await candidate.confirm()).leads


async def test_a_revoked_lease_ends_the_candidacy_and_it_can_stand_anew(
    client: EtcdClient, prefix: bytes
) -> None:
    async with standing(client, prefix, "a") as candidate:
        assert candidate.lease_id is not None
        lease_id = candidate.lease_id
        assert not await lease_is_gone(client, lease_id, timeout_s=LIMIT_S)
        await client.revoke_lease(lease_id)
        assert await lease_is_gone(client, lease_id, timeout_s=LIMIT_S)
        with pytest.raises(CandidacyLostError):
            await candidate.confirm()
        await candidate.stand()
        assert (await candidate.confirm()).leads


async def test_keys_that_come_first_by_their_names_hide_neither_the_leader_nor_a_candidate(
    client: EtcdClient, prefix: bytes
) -> None:
    async with standing(client, prefix, "a") as first, standing(client, prefix, "b") as second:
        for begin in range(0, 1000, 100):
            await client.transaction(
                [], [Put(prefix + b"!%d" % number, b"") for number in range(begin, begin + 100)]
            )
        confirmation = await second.confirm()
        assert not confirmation.leads
        assert [contender.value for contender in confirmation.queue[:2]] == [b"a", b"b"]
        assert (await first.confirm()).leads
    await client.transaction([], [Delete(prefix, prefix_end(prefix))])


async def test_unseating_is_guarded_by_the_candidacy(client: EtcdClient, prefix: bytes) -> None:
    async with standing(client, prefix, "a") as first, standing(client, prefix, "b") as second:
        leader = (await second.confirm()).queue[0]
        await first.withdraw()
        await first.stand()
        assert not await unseat(client, leader, [], timeout_s=LIMIT_S), (
            "that candidacy is over, this is another"
        )
        newer = Contender(first.key, b"a", first.token or 0, first.lease_id or 0)
        assert await unseat(client, newer, [], timeout_s=LIMIT_S)
        assert not await lease_is_gone(client, newer.lease, timeout_s=LIMIT_S)


async def test_etcd_tells_for_how_long_nobody_has_renewed_a_lease(client: EtcdClient, prefix: bytes) -> None:
    async with standing(client, prefix, "a", 30) as candidate:
        done = await candidate.confirm()
        lease_id = candidate.lease_id or 0
        idle_s = 0.0
        while idle_s < 1.0:
            idle_s = await lease_idle_s(client, lease_id, done.header, timeout_s=LIMIT_S)
        assert now_s() - done.sent_s >= idle_s, "it never says more than is true"
        for other in ({"member_id": 1}, {"raft_term": done.header.raft_term - 1}):
            stranger = dataclasses.replace(done.header, **other)
            assert await lease_idle_s(client, lease_id, stranger, timeout_s=LIMIT_S) == 0.0, (
                "another leader may know of more"
            )


async def test_a_renewal_by_a_leader_that_may_have_been_replaced_does_not_count(
    client: EtcdClient, prefix: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew = client.renew_lease

    async def renewed_in_the_term_before(lease_id: int, *, timeout_s: float | None = None) -> LeaseGrant:
        grant = await renew(lease_id, timeout_s=timeout_s)
        term = grant.header.raft_term - 1
        return dataclasses.replace(grant, header=dataclasses.replace(grant.header, raft_term=term))

    async with standing(client, prefix, "a") as candidate:
        with monkeypatch.context() as patch:
            patch.setattr(client, "renew_lease", renewed_in_the_term_before)
            with pytest.raises(StaleRenewalError):
                await candidate.confirm()
        assert (await candidate.confirm()).leads, "the candidacy goes on"


async def test_observers_are_told_of_every_leader(client: EtcdClient, prefix: bytes) -> None:
    seen: list[bytes | None] = []

    async def observe() -> None:
        async for leader in leaders(client, prefix):
            seen.append(leader.value if leader else None)

    task = asyncio.create_task(observe())
    try:
        await until(lambda: seen == [None], "nobody leads")
        async with standing(client, prefix, "a") as first:
            await until(lambda: seen[-1] == b"a", "a leads")
            async with standing(client, prefix, "b"):
                await first.withdraw()
                await until(lambda: seen[-1] == b"b", "b leads")
        await until(lambda: seen == [None, b"a", b"b", None], "nobody leads again")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_etcdctl_elect_listens_to_our_leaders(
    client: EtcdClient, each_etcd: EtcdServer, prefix: bytes
) -> None:
    name = prefix.decode().rstrip("/")
    with Etcdctl(each_etcd, "elect", "--listen", name) as listening:
        async with standing(client, prefix, "a") as first, standing(client, prefix, "b") as second:
            await until(lambda: "a" in listening.lines, "etcdctl names a")
            assert first.key.decode() in listening.lines
            await first.withdraw()
            await until(lambda: "b" in listening.lines, "etcdctl names b")
            assert second.key.decode() in listening.lines


async def test_etcdctl_elect_and_lock_stand_in_the_same_queue(
    client: EtcdClient, each_etcd: EtcdServer, prefix: bytes
) -> None:
    name = prefix.decode().rstrip("/")
    with Etcdctl(each_etcd, "elect", name, "theirs") as elected:
        await until(lambda: "theirs" in elected.lines, "etcdctl leads")
        async with standing(client, prefix, "ours") as candidate:
            assert not (await candidate.confirm()).leads
            with Etcdctl(each_etcd, "lock", name) as locking:
                await asyncio.to_thread(elected.__exit__)

                async def ours_leads() -> bool:
                    return (await candidate.confirm()).leads

                deadline_s = now_s() + 30
                while not await ours_leads():
                    assert now_s() < deadline_s
                assert locking.lines == [], "the lock is ours"
                await candidate.withdraw()
                await until(lambda: locking.lines, "etcdctl has the lock")


@pytest.mark.real_time
async def test_the_same_candidate_leads_after_an_outage_longer_than_its_lease(own_etcd: EtcdServer) -> None:
    async with EtcdClient(EtcdConfig.from_text(own_etcd.endpoint)) as client:
        candidate = Patient(client, b"/elections/web/", b"a", 3)
        await candidate.stand()
        token = (await candidate.confirm()).token
        own_etcd.freeze()
        with pytest.raises(Exception, match="unavailable"):
            await candidate.confirm(timeout_s=0.3)
        await asyncio.sleep(0.5)
        own_etcd.thaw()
        assert (await candidate.confirm()).token == token
        own_etcd.stop()
        own_etcd.start()
        assert (await candidate.confirm()).token == token
