"""Snapshot and watch over all that comes between: no event lost, none twice, no needless reading anew."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.integration.etcd.recording import Recording, connect, until
from tests.support.etcd import EtcdBinary, EtcdServer
from tests.support.relay import TcpRelay
from weldr.etcd.answers import PrefixRead
from weldr.etcd.client import Delete, EtcdClient, Put
from weldr.etcd.errors import EtcdClosedError, EtcdUnavailableError
from weldr.etcd.follow import Follower, Snapshot

MIB = 1024 * 1024


async def lose_connection(client: EtcdClient) -> None:
    """What the client does when it finds its member bad."""
    session = await client.connection.session(5)
    client.connection.failed(session, EtcdUnavailableError("the test says so", endpoint=str(session.endpoint)))


async def test_what_is_written_while_it_starts_arrives(each_etcd: EtcdServer, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()

    class WritesBehindTheRead(EtcdClient):
        async def read_prefix(self, *arguments: Any, **options: Any) -> PrefixRead:
            read = await super().read_prefix(*arguments, **options)
            await self.put(prefix + b"a", b"written after the snapshot, before the watch")
            return read

    async with (
        WritesBehindTheRead(connect(each_etcd.endpoint).config) as client,
        Recording(client, prefix) as recording,
    ):
        await recording.holds(prefix + b"a", b"written after the snapshot, before the watch")
        assert recording.snapshots[0].key_values == ()


async def test_every_change_arrives_once_and_an_emptied_prefix_is_empty(
    client: EtcdClient, etcd_prefix: str
) -> None:
    prefix = etcd_prefix.encode()
    await client.put(prefix + b"old", b"1")
    async with Recording(client, prefix) as recording:
        assert recording.state == {prefix + b"old": b"1"}
        await client.put(prefix[:-1] + b"0", b"next to the prefix, not below it")
        await client.transaction(
            [], [Put(prefix + b"a", b"1"), Put(prefix + b"b", b"1"), Delete(prefix + b"old")]
        )
        await client.put(prefix + b"a", b"2")
        await client.delete(prefix, prefix[:-1] + b"0")
        await until(lambda: recording.state == {}, "all is deleted")
        assert len(recording.changes) == 4
        assert recording.follower.revision == recording.changes[-1].revision


@pytest.mark.real_time
async def test_following_costs_no_reads_however_much_changes(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Recording(client, b"/c/") as recording:
        before = own_etcd.handled("Range")
        for number in range(200):
            await client.put(b"/c/%d" % (number % 7), b"%d" % number)
        await recording.holds(b"/c/%d" % (199 % 7), b"199")
        assert own_etcd.handled("Range") == before
        assert own_etcd.handled("Put") == 200


async def test_a_lost_connection_costs_neither_an_event_nor_a_snapshot(
    client: EtcdClient, etcd_prefix: str
) -> None:
    prefix = etcd_prefix.encode()
    async with Recording(client, prefix) as recording:
        for number in range(40):
            await client.put(prefix + b"a", b"%d" % number)
            if number % 4 == 3:
                await lose_connection(client)
        await recording.holds(prefix + b"a", b"39")
        assert [value for _, value in recording.events] == [b"%d" % number for number in range(40)]
        assert len(recording.snapshots) == 1
        assert recording.follower.reconnections > 0


async def test_a_lost_connection_costs_nothing_where_all_keys_are_followed(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Recording(client, b"") as recording:
        await client.put(b"a", b"1")
        await recording.holds(b"a", b"1")
        await lose_connection(client)
        await client.put(b"a", b"2")
        await recording.holds(b"a", b"2")
        assert len(recording.snapshots) == 1


async def test_a_slow_consumer_of_compacted_history_gives_no_alarm(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        follower = Follower(client, b"/x/", audit_interval_s=0.2)
        changes = aiter(follower)
        await anext(changes)
        for number in range(300):
            revision = (await client.put(b"/x/a", b"%d" % number)).revision
        await until(lambda: follower._changes.blocked, "the buffer is full")
        before = follower.audits
        await asyncio.to_thread(own_etcd.etcdctl, "compact", str(revision))
        await asyncio.sleep(4)  # longer than a watch is given to deliver a difference
        for _ in range(300):
            assert not isinstance(await anext(changes), Snapshot)
        await until(lambda: follower.audits > before, "the audit is made when it can be")
        assert follower.audit_failures == 0
        await changes.aclose()


async def test_compaction_during_a_disconnection_gives_a_new_snapshot_and_one_line(
    each_binary: EtcdBinary, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "weldr.etcd.follow")
    with EtcdServer(each_binary) as server:
        async with (
            TcpRelay(server.endpoint) as relay,
            connect(relay.endpoint) as client,
            Recording(client, b"/c/") as recording,
        ):
            await client.put(b"/c/kept", b"1")
            await client.put(b"/c/gone", b"1")
            await recording.holds(b"/c/gone", b"1")
            relay.go_silent()
            async with connect(server.endpoint) as direct:
                await direct.delete(b"/c/gone")
                revision = (await direct.put(b"/c/new", b"1")).revision
                await direct.put(b"/c/new", b"2")
            await asyncio.to_thread(server.etcdctl, "compact", str(revision))
            await until(lambda: not recording.follower.connected, "the silence is noticed")
            relay.go_on()
            await recording.holds(b"/c/new", b"2")
            assert recording.state == {b"/c/kept": b"1", b"/c/new": b"2"}
            assert [snapshot.reason for snapshot in recording.snapshots] == ["start", "compacted"]
            assert len(recording.changes) == 4, "the newest change is in the snapshot and is not repeated"
    lines = [record for record in caplog.records if record.name == "weldr.etcd.follow"]
    assert [line.message for line in lines] == ["all keys were read anew"]


async def test_compaction_below_a_quiet_prefix_disturbs_nothing(each_binary: EtcdBinary) -> None:
    with EtcdServer(each_binary) as server:
        async with connect(server.endpoint) as client:
            await client.put(b"/q/a", b"1")
            async with Recording(client, b"/q/") as recording:
                for _ in range(20):
                    revision = (await client.put(b"/elsewhere", b"x")).revision
                await asyncio.to_thread(server.etcdctl, "compact", str(revision))
                await client.put(b"/q/a", b"2")
                await recording.holds(b"/q/a", b"2")
                assert len(recording.snapshots) == 1


@pytest.mark.parametrize("how", ["lower revision", "other cluster"])
async def test_a_restored_etcd_gives_a_new_snapshot(each_binary: EtcdBinary, how: str) -> None:
    with EtcdServer(each_binary) as server:
        async with (
            TcpRelay(server.endpoint) as relay,
            connect(relay.endpoint) as client,
            Recording(client, b"/r/") as recording,
        ):
            for number in range(10):
                await client.put(b"/r/a", b"%d" % number)
            await recording.holds(b"/r/a", b"9")
            relay.go_silent()
            await asyncio.to_thread(server.kill)
            server.wipe()
            if how == "other cluster":
                server.cluster_token = "another"
            await asyncio.to_thread(server.start)
            async with connect(server.endpoint) as direct:
                await direct.put(b"/r/b", b"restored")
                for _ in range(20 if how == "other cluster" else 0):
                    await direct.put(b"/r/b", b"restored")
                await until(lambda: not recording.follower.connected, "the silence is noticed")
                relay.go_on()
                await recording.holds(b"/r/a", None)
                assert recording.state == {b"/r/b": b"restored"}
                assert [snapshot.reason for snapshot in recording.snapshots] == ["start", "restored"]
                # And it goes on from there, without reading anew again.
                await direct.put(b"/r/b", b"after")
                await recording.holds(b"/r/b", b"after")
                assert len(recording.snapshots) == 2


async def test_a_restored_etcd_that_has_outgrown_the_resume_point_is_found_by_the_audit(
    own_etcd: EtcdServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        TcpRelay(own_etcd.endpoint) as relay,
        connect(relay.endpoint) as client,
        Recording(client, b"/r/") as recording,
    ):
        await client.put(b"/r/lost", b"1")
        await recording.holds(b"/r/lost", b"1")
        relay.go_silent()
        await asyncio.to_thread(own_etcd.kill)
        own_etcd.wipe()  # the same cluster id and term, since name, token and ports are the same
        await asyncio.to_thread(own_etcd.start)
        async with connect(own_etcd.endpoint) as direct:
            await direct.put(b"/r/early", b"1")
            for _ in range(20):
                await direct.put(b"/elsewhere", b"1")
        await until(lambda: not recording.follower.connected, "the silence is noticed")
        relay.go_on()
        await recording.holds(b"/r/early", b"1")
        await recording.holds(b"/r/lost", None)
        assert [snapshot.reason for snapshot in recording.snapshots] == ["start", "audit"]
        assert recording.follower.audit_failures == 1
    [line] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert vars(line)["count"] == 2
    assert vars(line)["keys"] == ["/r/early", "/r/lost"]


async def test_a_restored_etcd_with_another_value_at_the_same_revision_is_found_by_the_audit(
    own_etcd: EtcdServer, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    async with (
        TcpRelay(own_etcd.endpoint) as relay,
        connect(relay.endpoint) as client,
        Recording(client, b"/r/") as recording,
    ):
        await client.put(b"/r/a", b"first")
        await asyncio.to_thread(own_etcd.etcdctl, "snapshot", "save", str(backup))
        old = await client.put(b"/r/a", b"old")
        await recording.holds(b"/r/a", b"old")
        relay.go_silent()
        await asyncio.to_thread(own_etcd.kill)
        own_etcd.restore(backup)
        await asyncio.to_thread(own_etcd.start)
        async with connect(own_etcd.endpoint) as direct:
            new = await direct.put(b"/r/a", b"new")
        assert new == old, "nothing but the value tells the two apart"
        await until(lambda: not recording.follower.connected, "the silence is noticed")
        relay.go_on()
        await recording.holds(b"/r/a", b"new")
        assert [snapshot.reason for snapshot in recording.snapshots] == ["start", "audit"]


async def test_audits_of_a_busy_prefix_find_nothing(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    async with Recording(client, prefix, audit_interval_s=0.05) as recording:
        number = 0
        lease = await client.grant_lease(60)
        while recording.follower.audits < 15:
            under = lease.id if number % 3 == 0 else 0
            await client.put(prefix + b"%d" % (number % 50), b"%d" % number, lease=under)
            if number % 7 == 0:
                await client.delete(prefix + b"%d" % ((number * 3) % 50))
            number += 1
        assert recording.follower.audit_failures == 0
        assert len(recording.snapshots) == 1


async def test_an_audit_of_a_quiet_prefix_survives_compaction(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        await client.put(b"/q/a", b"1")
        async with Recording(client, b"/q/", audit_interval_s=0.2) as recording:
            for _ in range(20):
                revision = (await client.put(b"/elsewhere", b"x")).revision
            await asyncio.to_thread(own_etcd.etcdctl, "compact", str(revision))
            before = recording.follower.audits
            await until(lambda: recording.follower.audits >= before + 3, "audits go on")
            assert recording.follower.audit_failures == 0


async def test_a_key_that_was_never_delivered_is_found_by_the_audit(
    client: EtcdClient, etcd_prefix: str
) -> None:
    prefix = etcd_prefix.encode()
    await client.put(prefix + b"a", b"1")
    async with Recording(client, prefix, audit_interval_s=0.2) as recording:
        # What a lost event leaves behind: the follower does not know of a key.
        recording.follower._fingerprints.clear()
        await until(lambda: len(recording.snapshots) == 2, "all is read anew")
        assert recording.snapshots[1].reason == "audit"
        before = recording.follower.audits
        await until(lambda: recording.follower.audits > before, "the next audit")
        assert recording.follower.audit_failures == 1


async def test_a_slow_consumer_holds_the_stream_back_and_loses_nothing(
    client: EtcdClient, etcd_prefix: str
) -> None:
    prefix = etcd_prefix.encode()
    follower = Follower(client, prefix)
    changes = aiter(follower)
    assert isinstance(await anext(changes), Snapshot)
    count = 1500
    for number in range(count):
        await client.put(prefix + b"a", b"%d" % number)
    held = len(follower._changes._items)
    assert held <= 256
    seen = [await asyncio.wait_for(anext(changes), 30) for _ in range(count)]
    values = [change.events[0].key_value.value for change in seen if not isinstance(change, Snapshot)]
    assert values == [b"%d" % number for number in range(count)]
    await changes.aclose()


async def test_a_burst_comes_in_few_batches(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    follower = Follower(client, prefix)
    batches = follower.batches()
    assert len(await anext(batches)) == 1
    for number in range(100):
        await client.put(prefix + b"a", b"%d" % number)
    await until(lambda: len(follower._changes._items) == 100, "all have arrived")
    assert len(await anext(batches)) == 100
    await batches.aclose()


async def test_an_iteration_that_is_left_leaves_nothing_behind(client: EtcdClient, etcd_prefix: str) -> None:
    before = asyncio.all_tasks()
    follower = Follower(client, etcd_prefix.encode())
    async for change in follower:
        assert isinstance(change, Snapshot)
        break
    gc.collect()
    await until(lambda: not (asyncio.all_tasks() - before - _of_connection()), "its tasks have ended")
    assert not follower.connected
    # And it can be used again, from a snapshot on.
    async for change in follower:
        assert isinstance(change, Snapshot)
        break


async def test_the_end_of_the_client_ends_the_iteration(each_etcd: EtcdServer, etcd_prefix: str) -> None:
    client = connect(each_etcd.endpoint)
    changes = aiter(Follower(client, etcd_prefix.encode()))
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.2)
    await client.close()
    with pytest.raises(EtcdClosedError):
        await asyncio.wait_for(waiting, 30)


@pytest.mark.real_time
async def test_a_member_that_stops_in_good_order_is_left_at_once(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client, Recording(client, b"/g/") as recording:
        await until(lambda: recording.follower.connected, "it follows")
        stopping = asyncio.create_task(asyncio.to_thread(own_etcd.stop))
        took_s = await until(lambda: not recording.follower.connected, "the goodbye is heard")
        # Far less than a silent member takes.
        assert took_s < 2.5
        await stopping


async def test_a_snapshot_and_a_backlog_far_above_grpcs_default_limit(own_etcd: EtcdServer) -> None:
    async with TcpRelay(own_etcd.endpoint) as relay, connect(own_etcd.endpoint) as direct:
        for number in range(10):
            await direct.put(b"/b/%d" % number, b"x" * MIB)
        async with connect(relay.endpoint) as client, Recording(client, b"/b/") as recording:
            assert len(recording.state) == 10
            relay.go_silent()
            for number in range(10):
                await direct.put(b"/b/%d" % number, b"y" * MIB)
            relay.go_on()
            await recording.holds(b"/b/9", b"y" * MIB)
            assert len(recording.events) == 10
            assert len(recording.snapshots) == 1


@pytest.mark.real_time
async def test_expecting_a_write_that_arrives_changes_nothing(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    async with Recording(client, prefix) as recording:
        recording.follower.expect((await client.put(prefix + b"a", b"1")).revision)
        await recording.holds(prefix + b"a", b"1")
        await asyncio.sleep(4)
        assert recording.follower.reconnections == 0


async def test_a_write_that_does_not_arrive_makes_it_connect_anew(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    async with Recording(client, prefix) as recording:
        recording.follower.expect(10**9)
        await until(lambda: recording.follower.reconnections == 1, "the stuck stream is replaced")
        await client.put(prefix + b"a", b"1")
        await recording.holds(prefix + b"a", b"1")


def _of_connection() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task.get_name() in ("etcd-connect", "etcd-goodbye")}
