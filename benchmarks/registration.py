"""From a key in etcd to every worker: put, delete and lease expiry."""

from __future__ import annotations

import argparse
import asyncio
import time

from benchmarks.probe import Probe, milliseconds, probes_of_each_worker
from tests.support.etcd import EtcdServer, newest
from tests.support.instance import Instance
from tests.support.servers import NamedServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig

NAME = "registration"
_LIMIT_S = 20.0
_LEASE_TTL_S = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registrations", type=int, default=200)
    parser.add_argument("--expiries", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)


def run(options: argparse.Namespace) -> None:
    with (
        EtcdServer() as etcd,
        NamedServer("b1") as server,
        Instance("--log-level", "info", etcd=etcd.endpoint, workers=options.workers) as weldr,
    ):
        weldr.wait_ready()
        print(f"etcd {newest().label}, {options.workers} workers; from the call to each worker")
        asyncio.run(_measure(etcd, server, weldr, options))


async def _measure(etcd: EtcdServer, server: NamedServer, weldr: Instance, options: argparse.Namespace) -> None:
    probes = await probes_of_each_worker(weldr.address, weldr.worker_pids())
    key = b"/weldr/backends/default/b1"
    puts: list[float] = []
    deletes: list[float] = []
    expiries: list[float] = []
    async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client:
        for _ in range(options.registrations):
            lease = await client.grant_lease(60)
            started = time.monotonic()
            await client.put(key, server.address.encode(), lease=lease.id)
            puts += [moment - started for moment in await _all(probes, 200)]
            started = time.monotonic()
            await client.delete(key)
            deletes += [moment - started for moment in await _all(probes, 503)]
            await client.revoke_lease(lease.id)
        for _ in range(options.expiries):
            lease = await client.grant_lease(_LEASE_TTL_S)
            started = time.monotonic()
            await client.put(key, server.address.encode(), lease=lease.id)
            expiries += [moment - started - _LEASE_TTL_S for moment in await _all(probes, 503, after=200)]
    for probe in probes:
        probe.close()
    print(milliseconds("put to traffic", puts))
    print(milliseconds("delete to no traffic", deletes))
    print(milliseconds(f"expiry, beyond its {_LEASE_TTL_S} s", expiries))


async def _all(probes: list[Probe], status: int, after: int | None = None) -> list[float]:
    """When each probe's worker first answered with `status` (having answered `after` before)."""

    async def one(probe: Probe) -> float:
        if after is not None:
            await probe.until(lambda answer: answer[0] == after, _LIMIT_S)
        return await probe.until(lambda answer: answer[0] == status, _LIMIT_S)

    return await asyncio.gather(*map(one, probes))
