"""Following an etcd that answers as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.integration.etcd.recording import until
from tests.support.fake_etcd import FakeClient, created, pair, written
from weldr.etcd import trouble, watch
from weldr.etcd.errors import EtcdUnavailableError
from weldr.etcd.follow import Change, Follower, Snapshot


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(watch, "_TURN_S", 0.01)
    monkeypatch.setattr(trouble, "_FALLBACK_S", 0.3)
    monkeypatch.setattr(trouble, "_TELL_S", 0.5)
    return FakeClient(revision=5)


@contextlib.asynccontextmanager
async def following(client: Any, **options: Any) -> AsyncGenerator[tuple[Follower, list[Change]], None]:
    follower = Follower(client, b"/x/", **options)
    changes: list[Change] = []

    async def record() -> None:
        async for change in follower:
            changes.append(change)

    task = asyncio.create_task(record())
    try:
        yield follower, changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def reasons(changes: list[Change]) -> list[str]:
    return [change.reason for change in changes if isinstance(change, Snapshot)]


async def test_an_earlier_raft_term_means_a_restored_etcd(client: FakeClient) -> None:
    client.sessions[0].opened.messages.put_nowait(created(5))
    async with following(client) as (follower, changes):
        await until(lambda: follower.connected, "it follows")
        client.header = dataclasses.replace(client.header, raft_term=client.header.raft_term - 1)
        client.key_values = (pair(b"/x/a", b"restored", 5),)
        client.sessions[0].opened.messages.put_nowait(None)
        await until(lambda: len(changes) == 2, "all is read anew")
        assert reasons(changes) == ["start", "restored"]


async def test_a_watch_that_cannot_be_created_is_told_once_and_replaced_by_reading(
    client: FakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "weldr.etcd")
    async with following(client) as (follower, changes):
        await until(lambda: changes, "the first snapshot")
        client.header = dataclasses.replace(client.header, revision=6)
        client.key_values = (pair(b"/x/a", b"1", 6),)
        await until(lambda: changes[-1].revision == 6, "what no watch delivers is read")
        assert set(reasons(changes)) == {"start", "unwatched"}
        await until(lambda: caplog.records, "it is told")
        before = len(changes)
        await until(lambda: len(changes) > before, "it is read again")
        assert not follower.connected
        client.watchable = True
        await until(lambda: len(caplog.records) == 2, "its end is told")
    assert [record.message for record in caplog.records] == [
        "etcd cannot be followed",
        "following etcd works again",
    ]


async def test_audits_are_made_however_short_the_watches_live(client: FakeClient) -> None:
    async with following(client, audit_interval_s=0.2) as (follower, changes):
        await until(lambda: changes, "the first snapshot")
        # Each watch lives for 0.07 s.
        await until(lambda: follower.audits >= 2, "an audit falls due though no watch lives so long")


async def test_an_audit_that_meets_another_cluster_reads_all_anew(client: FakeClient) -> None:
    client.sessions[0].opened.messages.put_nowait(created(5))
    client.sessions[0].revision = 5
    async with following(client, audit_interval_s=0.2) as (follower, changes):
        await until(lambda: follower.connected, "it follows")
        client.header = dataclasses.replace(client.header, cluster_id=77)
        await until(lambda: len(changes) == 2, "all is read anew")
        assert reasons(changes) == ["start", "restored"]
        assert follower.audit_failures == 0


async def test_the_member_that_told_the_place_is_the_one_that_is_watched(client: FakeClient) -> None:
    class Moves(FakeClient):
        """Loses its session during the first read."""

        async def read_prefix(self, prefix: bytes) -> Any:
            read = await super().read_prefix(prefix)
            self.failed(self.sessions[0], EtcdUnavailableError("the test says so", endpoint="http://fake"))
            return read

        async def range(self, *arguments: Any, **options: Any) -> Any:
            self.ranges = getattr(self, "ranges", 0) + 1
            return await super().range(*arguments, **options)

    moving = Moves(revision=5)
    async with following(moving) as (_, changes):
        await until(lambda: moving.sessions[-1].opened.writes, "it watches")
        assert moving.ranges == 1, "the second member was asked for the place, too"
        moving.sessions[1].opened.messages.put_nowait(created(5))
        moving.sessions[1].opened.messages.put_nowait(written(b"/x/a", b"1", 6))
        await until(lambda: len(changes) == 2, "the event arrives")
