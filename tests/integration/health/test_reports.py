"""`health/` in a real etcd: on change only, not too often, not too much, and under the instance's lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.etcd import EtcdServer
from weldr.control.health import reports as module
from weldr.control.health.reports import HealthReports
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdUnavailableError
from weldr.model.health import HealthChange


def change(number: int) -> HealthChange:
    return HealthChange(state="down", reason=f"reason {number}", address="10.0.0.1:80", at=datetime.now(UTC))


class Written:
    """The reports of an instance with a lease, and what etcd has of them."""

    def __init__(self, client: EtcdClient, prefix: bytes, lease: int) -> None:
        self.client = client
        self.prefix = prefix
        self.lease: int | None = lease
        self.revisions: list[int] = []
        self.reports = HealthReports(client, lambda: self.lease, self.revisions.append)

    def key(self, number: int) -> bytes:
        return self.prefix + b"%d" % number

    async def until(self, count: int, reason: str = "") -> None:
        """Wait until etcd has so many keys (that say this)."""
        async with asyncio.timeout(30):
            while True:
                pairs = (await self.client.read_prefix(self.prefix)).key_values
                if len(pairs) == count and all(reason.encode() in pair.value for pair in pairs):
                    return
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def writing(
    etcd: EtcdServer, prefix: str, through: type[EtcdClient] = EtcdClient
) -> AsyncIterator[Written]:
    async with through(EtcdConfig.from_text(etcd.endpoint)) as client:
        lease = await client.grant_lease(600)
        written = Written(client, prefix.encode(), lease.id)
        running = asyncio.create_task(written.reports.run())
        try:
            yield written
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_what_changes_often_is_written_seldom_and_as_it_is_in_the_end(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    async with writing(etcd_server, etcd_prefix) as written:
        began_s = asyncio.get_running_loop().time()
        for number in range(300):
            written.reports.report(written.key(1), change(number))
            await asyncio.sleep(0.005)
        await written.until(1, "reason 299")
        took_s = asyncio.get_running_loop().time() - began_s
        assert len(written.revisions) <= took_s + 2


async def test_keys_too_long_to_be_written_together_are_written_all_the_same(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    async with writing(etcd_server, etcd_prefix) as written:
        written.reports.report(written.key(0) + b"x" * 2_000_000, change(0))
        for number in range(10):
            written.reports.report(written.key(number) + b"x" * 200_000, change(number))
        await written.until(10)


async def test_many_changes_are_written_together(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    async with writing(etcd_server, etcd_prefix) as written:
        for number in range(250):
            written.reports.report(written.key(number), change(number))
        await written.until(250)
        # etcd has the last keys before it says so.
        async with asyncio.timeout(30):
            while len(written.revisions) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(written.revisions) == 3
        written.reports.forget(written.key(0))
        await written.until(249)


async def test_another_lease_gets_all_keys_again(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    async with writing(etcd_server, etcd_prefix) as written:
        for number in range(3):
            written.reports.report(written.key(number), change(number))
        await written.until(3)
        assert written.lease is not None
        await written.client.revoke_lease(written.lease)
        await written.until(0)
        written.lease = None
        written.reports.report(written.key(3), change(3))
        written.lease = (await written.client.grant_lease(600)).id
        written.reports.lease_granted()
        await written.until(4)
        pair = await written.client.get(written.key(0))
        assert pair is not None
        assert pair.lease == written.lease


async def test_a_key_of_which_it_is_not_certain_that_it_was_written_goes_with_its_backend(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    class LosesAnswers(EtcdClient):
        """The answers to writes are lost on the way."""

        async def transaction(self, *arguments: Any) -> Any:
            await super().transaction(*arguments)
            raise EtcdUnavailableError("the connection is lost", endpoint="etcd")

    async with writing(etcd_server, etcd_prefix, LosesAnswers) as written:
        written.reports.report(written.key(1), change(1))
        await written.until(1)
        written.reports.forget(written.key(1))
        await written.until(0)


async def test_what_comes_and_goes_while_nothing_can_be_written_is_not_remembered(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    async with writing(etcd_server, etcd_prefix) as written:
        lease, written.lease = written.lease, None
        for number in range(1_000):
            written.reports.report(written.key(number), change(number))
            written.reports.forget(written.key(number))
        assert not written.reports._stale
        written.lease = lease
        written.reports.report(written.key(0), change(0))
        await written.until(1)


async def test_there_is_a_limit_and_the_oldest_changes_go(
    etcd_server: EtcdServer, etcd_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 20)
    async with writing(etcd_server, etcd_prefix) as written:
        for number in range(30):
            written.reports.report(written.key(number), change(number))
        await written.until(20)
        assert await written.client.get(written.key(9)) is None
        assert await written.client.get(written.key(10)) is not None
