"""Which leases live, asked of a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tests.support.etcd import EtcdServer
from weldr.control.health.leases import LeaseInquiry
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig


async def test_what_is_found_of_many_leases_is_handed_on_together(etcd_server: EtcdServer) -> None:
    told: list[Mapping[int, bool]] = []
    async with EtcdClient(EtcdConfig.from_text(etcd_server.endpoint)) as client, asyncio.timeout(30):
        living = {(await client.grant_lease(600)).id for _ in range(3)}
        unjudged = living | set(range(1, 200))
        done = asyncio.Event()

        def answered(answers: Mapping[int, bool]) -> None:
            told.append(answers)
            unjudged.difference_update(answers)
            done.set()

        inquiry = LeaseInquiry(client, lambda: set(unjudged), answered)
        running = asyncio.create_task(inquiry.run())
        inquiry.ask()
        await done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for lease in living:
            await client.revoke_lease(lease)
    assert told == [dict.fromkeys(living, True) | dict.fromkeys(range(1, 200), False)]
