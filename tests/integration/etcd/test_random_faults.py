"""Members killed, frozen and restarted at random, under writes: what is followed is what etcd has, once."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.integration.etcd.recording import Recording, connect, member_in_use, until
from tests.support.etcd import EtcdCluster, EtcdServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError

FAULTS_S = 10.0
ENOUGH_WRITES = 300
PREFIX = b"/numbers/"


class Writer:
    """Writes ever new numbers to a few keys, and remembers at which revision each was acknowledged."""

    def __init__(self, client: EtcdClient) -> None:
        self.acknowledged: dict[int, int] = {}
        self.failures = 0
        self._client = client
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                header = await self._client.put(PREFIX + b"%d" % (number % 37), b"%d" % number, timeout_s=4)
            except EtcdError:
                self.failures += 1
                continue
            self.acknowledged[number] = header.revision
            await asyncio.sleep(0.002)

    async def stop(self) -> None:
        self._stop.set()
        await self._task


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_revision_is_missed_or_repeated_whatever_happens_to_members(
    own_cluster: EtcdCluster, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        connect(own_cluster.endpoints) as writing,
        connect(own_cluster.endpoints) as following,
        Recording(following, PREFIX, audit_interval_s=2) as recording,
    ):
        writer = Writer(writing)
        end_s = time.monotonic() + FAULTS_S
        # How much gets done in that time is the machine's affair; the test needs enough of both.
        while (
            time.monotonic() < end_s
            or recording.follower.reconnections <= 2
            or len(writer.acknowledged) <= ENOUGH_WRITES
        ):
            await _fault(chance, own_cluster, following)
            await asyncio.sleep(chance.uniform(0.2, 1.0))
        await writer.stop()
        final = await writing.read_prefix(PREFIX, timeout_s=30)
        expected = {pair.key: pair.value for pair in final.key_values}
        await until(lambda: recording.state == expected, "the follower has all")
        # `Recording` itself fails on anything repeated or out of order.
        assert len(recording.snapshots) == 1, [snapshot.reason for snapshot in recording.snapshots]
        delivered = {value: change.revision for change in recording.changes[1:] for value in _values(change)}
        missed = {
            number for number, revision in writer.acknowledged.items() if delivered.get(number) != revision
        }
        assert not missed
        assert recording.follower.audit_failures == 0
        print(
            f"seed {seed}: {len(delivered)} revisions, {recording.follower.reconnections} reconnections, "
            f"{writer.failures} failed writes, {recording.follower.audits} audits"
        )


def _values(change) -> list[int]:  # type: ignore[no-untyped-def]
    return [int(event.key_value.value) for event in change.events]


async def _fault(chance: random.Random, cluster: EtcdCluster, following: EtcdClient) -> None:
    """One member, never two: the rest has to be able to go on. Mostly the one that matters."""
    member: EtcdServer = chance.choice(cluster.members)
    if following.connection.endpoint is not None and chance.random() < 0.7:
        member = member_in_use(cluster, following)
    match chance.choice(("kill", "freeze", "stop", "long freeze")):
        case "kill":
            await asyncio.to_thread(member.kill)
            await asyncio.to_thread(member.start)
        case "stop":
            await asyncio.to_thread(member.restart)
        case "freeze":
            member.freeze()
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            member.thaw()
        case "long freeze":
            member.freeze()
            await asyncio.sleep(4.5)
            member.thaw()
