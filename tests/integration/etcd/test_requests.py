"""Reads, writes, transactions and pages, against the oldest and the newest etcd."""

from __future__ import annotations

import pytest

from tests.integration.etcd.recording import connect
from tests.support.etcd import EtcdServer
from weldr.etcd.answers import DeleteResult, PutResult, RangeResult
from weldr.etcd.client import Compare, Delete, EtcdClient, Put, Read, prefix_end
from weldr.etcd.errors import EtcdCompactedError, EtcdLeaseNotFoundError, EtcdRefusedError

MIB = 1024 * 1024


async def test_a_key_is_written_read_and_deleted(client: EtcdClient, etcd_prefix: str) -> None:
    key = etcd_prefix.encode() + b"a"
    assert await client.get(key) is None
    written = await client.put(key, b"1")
    found = await client.get(key)
    assert found is not None
    assert (found.value, found.mod_revision, found.lease) == (b"1", written.revision, 0)
    deleted, header = await client.delete(key)
    assert (deleted, header.revision) == (1, written.revision + 1)
    assert header.cluster_id == written.cluster_id
    assert await client.get(key) is None
    assert (await client.delete(key))[0] == 0


async def test_a_range_can_be_limited_counted_and_read_in_the_past(
    client: EtcdClient, etcd_prefix: str
) -> None:
    prefix = etcd_prefix.encode()
    for name in (b"a", b"b", b"c"):
        written = await client.put(prefix + name, name)
    await client.delete(prefix, prefix_end(prefix))
    then = {"revision": written.revision}
    limited = await client.range(prefix, prefix_end(prefix), limit=2, **then)
    assert ([pair.value for pair in limited.key_values], limited.more) == ([b"a", b"b"], True)
    counted = await client.range(prefix, prefix_end(prefix), count_only=True, **then)
    assert (counted.count, counted.key_values) == (3, ())
    keys = await client.range(prefix, prefix_end(prefix), keys_only=True, **then)
    assert [(pair.key, pair.value) for pair in keys.key_values] == [
        (prefix + name, b"") for name in (b"a", b"b", b"c")
    ]
    assert (await client.read_prefix(prefix)).key_values == ()


async def test_a_transaction_does_one_of_its_two_sides(client: EtcdClient, etcd_prefix: str) -> None:
    key = etcd_prefix.encode() + b"a"
    absent = Compare.create_revision(key, "==", 0)
    first = await client.transaction([absent], [Put(key, b"1")], [Read(key)])
    assert first.succeeded
    assert first.responses == (PutResult(first.responses[0].header),)
    second = await client.transaction([absent], [Put(key, b"2")], [Read(key)])
    assert not second.succeeded
    [read] = second.responses
    assert isinstance(read, RangeResult)
    assert read.key_values[0].value == b"1"
    third = await client.transaction([], [Delete(key)])
    assert isinstance(third.responses[0], DeleteResult)
    assert third.responses[0].deleted == 1


async def test_comparisons_see_revisions_versions_values_and_leases(
    client: EtcdClient, etcd_prefix: str
) -> None:
    key = etcd_prefix.encode() + b"a"
    lease = await client.grant_lease(60)
    await client.put(key, b"1")
    revision = (await client.put(key, b"2", lease=lease.id)).revision
    holding = [
        Compare.mod_revision(key, "==", revision),
        Compare.create_revision(key, "<", revision),
        Compare.version(key, ">", 1),
        Compare.value(key, "!=", b"1"),
        Compare.lease(key, "==", lease.id),
    ]
    assert (await client.transaction(holding, [])).succeeded
    for compare in [Compare.lease(key, "!=", lease.id), Compare.value(key, "==", b"1")]:
        assert not (await client.transaction([compare], [])).succeeded
    await client.revoke_lease(lease.id)


async def test_a_refused_request_says_what_etcd_said(client: EtcdClient, etcd_prefix: str) -> None:
    key = etcd_prefix.encode()
    with pytest.raises(EtcdLeaseNotFoundError):
        await client.put(key, b"1", lease=12345)
    with pytest.raises(EtcdRefusedError, match="duplicate key"):
        await client.transaction([], [Put(key, b"1"), Put(key, b"2")])
    with pytest.raises(EtcdRefusedError, match="larger than max"):
        await client.put(key, b"x" * (2 * MIB))


async def test_ten_thousand_keys_are_read_at_one_revision(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    names = [prefix + b"%05d" % number for number in range(10_100)]
    for begin in range(0, len(names), 101):
        header = (await client.transaction([], [Put(name, b"v") for name in names[begin : begin + 101]])).header

    class WritesBetweenPages(EtcdClient):
        async def range(self, *arguments, **options):  # type: ignore[no-untyped-def]
            result = await super().range(*arguments, **options)
            await self.put(names[-1], b"changed while it was read")
            return result

    async with WritesBetweenPages(client.config) as writing:
        read = await writing.read_prefix(prefix, page=700)
    assert read.revision == header.revision
    assert [pair.key for pair in read.key_values] == names
    assert {pair.value for pair in read.key_values} == {b"v"}
    keys = await client.read_prefix(prefix, keys_only=True)
    assert len(keys.key_values) == len(names)
    assert {pair.value for pair in keys.key_values} == {b""}


async def test_a_page_that_is_too_large_for_one_message_is_read_in_smaller_ones(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        for number in range(70):
            await client.put(b"large/%02d" % number, b"x" * MIB)
        read = await client.read_prefix(b"large/")
        assert sum(len(pair.value) for pair in read.key_values) == 70 * MIB


async def test_a_compacted_revision_is_told_from_other_failures(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        old = (await client.put(b"a", b"1")).revision
        new = (await client.put(b"a", b"2")).revision
        own_etcd.etcdctl("compact", str(new))
        with pytest.raises(EtcdCompactedError):
            await client.range(b"a", revision=old)


async def test_a_name_may_hold_any_byte(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode() + b"\xff\x00\xff"
    await client.put(prefix, b"\x00")
    await client.put(prefix + b"\xff", b"\xff")
    read = await client.read_prefix(prefix)
    assert [pair.value for pair in read.key_values] == [b"\x00", b"\xff"]


async def test_the_members_status_names_version_and_leader(client: EtcdClient, each_etcd: EtcdServer) -> None:
    status = await client.status()
    assert status.version == each_etcd.binary.label
    assert status.leader == status.header.member_id
    assert not status.is_learner


async def test_an_old_version_is_warned_about_once_with_the_reason(
    each_etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(each_etcd.endpoint) as client:
        await client.get(b"a")
        await client.get(b"a")
    warnings = [record for record in caplog.records if "older than 3.5.23" in record.message]
    assert len(warnings) == (1 if each_etcd.binary.version < (3, 5, 23) else 0)
    for warning in warnings:
        assert "watch events" in vars(warning)["reason"]
