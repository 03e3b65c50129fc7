"""One watch stream: refusals, fragments, large answers, signs of life."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from tests.integration.etcd.recording import connect, until
from tests.support.etcd import EtcdBinary, EtcdServer
from weldr.etcd.client import Delete, EtcdClient, Put
from weldr.etcd.errors import EtcdCompactedError, EtcdTimeoutError, EtcdUnavailableError
from weldr.etcd.watch import watch
from weldr.model.events import Revision

SESSION_S = 5.0


async def collect(client: EtcdClient, prefix: bytes, start_revision: int, count: int) -> list[Revision]:
    """The first `count` revisions."""
    session = await client.connection.session(SESSION_S)
    found: list[Revision] = []
    async with asyncio.timeout(30), contextlib.aclosing(watch(session, prefix, start_revision)) as stream:
        async for revisions in stream:
            found += revisions
            if len(found) >= count:
                break
    return found


async def test_a_transaction_is_one_revision(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    names = [prefix + b"%03d" % number for number in range(128)]
    put = await client.transaction([], [Put(name, b"v") for name in names])
    removed = await client.transaction([], [Delete(name) for name in names])
    first, second = await collect(client, prefix, put.header.revision, 2)
    assert first.revision == put.header.revision
    assert sorted(event.key_value.key for event in first.events) == names
    assert not any(event.deleted for event in first.events)
    assert second.revision == removed.header.revision
    assert len(second.events) == 128
    assert all(event.deleted and event.key_value.value == b"" for event in second.events)


async def test_a_revoked_lease_takes_all_its_keys_in_one_revision(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    lease = await client.grant_lease(60)
    put = await client.transaction([], [Put(prefix + b"%d" % number, b"v", lease.id) for number in range(50)])
    await client.revoke_lease(lease.id)
    _, expired = await collect(client, prefix, put.header.revision, 2)
    assert len(expired.events) == 50


async def test_answers_far_above_grpcs_default_limit_arrive_as_whole_revisions(each_binary: EtcdBinary) -> None:
    with EtcdServer(each_binary) as server:
        async with connect(server.endpoint) as client:
            first = 0
            for _ in range(6):
                operations = [Put(b"f/%03d" % number, b"x" * 10_000) for number in range(128)]
                revision = (await client.transaction([], operations)).header.revision
                first = first or revision
            found = await collect(client, b"f/", first, 6)
    assert [len(revision.events) for revision in found] == [128] * 6
    assert [revision.revision for revision in found] == list(range(first, first + 6))


async def test_a_refused_watch_is_no_watch(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        old = (await client.put(b"a", b"1")).revision
        new = (await client.put(b"a", b"2")).revision
        newest = (await client.put(b"a", b"3")).revision
        await asyncio.to_thread(own_etcd.etcdctl, "compact", str(new))
        with pytest.raises(EtcdCompactedError) as failure:
            await collect(client, b"a", old, 1)
        assert failure.value.compact_revision == new
        assert [revision.revision for revision in await collect(client, b"a", new, 2)] == [new, newest]


@pytest.mark.real_time
async def test_a_quiet_watch_stays_alive(client: EtcdClient, etcd_prefix: str) -> None:
    session = await client.connection.session(SESSION_S)
    contacts: list[float] = []
    prefix = etcd_prefix.encode()
    revision = (await client.put(prefix, b"1")).revision
    watching = asyncio.create_task(
        _next(watch(session, prefix, revision + 1, on_contact=lambda: contacts.append(1)))
    )
    # The creation, and the answers to what it was asked while it was quiet, for longer than it may be silent.
    await until(lambda: len(contacts) >= 4 or watching.done(), "it has answered three times")
    assert not watching.done()
    await client.put(prefix, b"2")
    assert (await asyncio.wait_for(watching, 30))[0].events[0].key_value.value == b"2"


@pytest.mark.real_time
async def test_a_watch_that_does_not_deliver_what_was_written_is_given_up(client: EtcdClient) -> None:
    session = await client.connection.session(SESSION_S)
    began_s = time.monotonic()
    # What a stuck watch looks like: it answers, but a write at revision 10^9 does not come.
    with pytest.raises(EtcdTimeoutError, match="does not deliver"):
        await _next(watch(session, b"/never/", 10**8, expected=lambda: 10**9))
    assert 2.0 < time.monotonic() - began_s < 8.0


@pytest.mark.real_time
async def test_a_frozen_server_is_noticed_within_five_seconds(own_etcd: EtcdServer) -> None:
    async with connect(own_etcd.endpoint) as client:
        session = await client.connection.session(SESSION_S)
        contacts: list[float] = []
        watching = asyncio.create_task(
            _next(watch(session, b"a", 100, on_contact=lambda: contacts.append(time.monotonic())))
        )
        await until(lambda: contacts, "the watch is created")
        own_etcd.freeze()
        began_s = time.monotonic()
        with pytest.raises(EtcdUnavailableError, match="silent"):
            await watching
        assert time.monotonic() - began_s < 5.5
        own_etcd.thaw()


async def test_a_pause_of_our_own_process_does_not_end_a_watch(client: EtcdClient, etcd_prefix: str) -> None:
    prefix = etcd_prefix.encode()
    session = await client.connection.session(SESSION_S)
    contacts: list[int] = []
    revision = (await client.put(prefix, b"1")).revision
    watching = asyncio.create_task(
        _next(watch(session, prefix, revision + 1, on_contact=lambda: contacts.append(1)))
    )
    await until(lambda: contacts, "the watch is created")
    time.sleep(4)  # noqa: ASYNC251 - the standstill is what is tested
    await asyncio.sleep(0.1)
    assert not watching.done()
    await client.put(prefix, b"2")
    assert await asyncio.wait_for(watching, 30)


async def _next(stream):  # type: ignore[no-untyped-def]
    async with contextlib.aclosing(stream) as revisions:
        return await anext(revisions)
