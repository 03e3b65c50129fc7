"""A big catalog: how long 10,000 backends take to load, and one more put after that."""

from __future__ import annotations

import argparse
import asyncio
import json
import time

from benchmarks.probe import milliseconds, probes_of_each_worker
from tests.support.etcd import EtcdServer, newest
from tests.support.instance import Instance
from tests.support.servers import NamedServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.operations import Put

NAME = "catalog"
_KEYS_IN_TRANSACTION = 100
_LIMIT_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--puts", type=int, default=50)


def run(options: argparse.Namespace) -> None:
    with EtcdServer() as etcd, NamedServer("b1") as server:
        asyncio.run(_measure(etcd, server, options))


async def _measure(etcd: EtcdServer, server: NamedServer, options: argparse.Namespace) -> None:
    await _fill(etcd, options)
    size = f"{options.backends} backends in {options.services} services"
    print(f"etcd {newest().label}, {size}, {options.workers} workers")
    started = time.monotonic()
    with Instance("--log-level", "info", etcd=etcd.endpoint, workers=options.workers) as weldr:
        weldr.wait_running()
        running = time.monotonic()
        weldr.wait_ready()
        ready = time.monotonic()
        print(f"start to ready                {ready - started:6.2f} s")
        print(f"of it, reading and compiling  {ready - running:6.2f} s")
        await _one_more(etcd, server, weldr, options)


async def _fill(etcd: EtcdServer, options: argparse.Namespace) -> None:
    async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client:
        puts = [
            Put(f"/weldr/backends/s{index % options.services}/b{index}".encode(), b"127.0.0.1:9")
            for index in range(options.backends)
        ]
        for first in range(0, len(puts), _KEYS_IN_TRANSACTION):
            await client.transaction([], puts[first : first + _KEYS_IN_TRANSACTION], [])
        route = json.dumps({"host": "bench", "service": "bench"}).encode()
        await client.put(b"/weldr/routes/bench", route)


async def _one_more(
    etcd: EtcdServer, server: NamedServer, weldr: Instance, options: argparse.Namespace
) -> None:
    probes = await probes_of_each_worker(weldr.address, weldr.worker_pids())
    key = b"/weldr/backends/bench/b1"
    puts: list[float] = []
    async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client:
        for _ in range(options.puts):
            started = time.monotonic()
            await client.put(key, server.address.encode())
            moments = await asyncio.gather(*(probe.until(lambda a: a[0] == 200, _LIMIT_S) for probe in probes))
            puts += [moment - started for moment in moments]
            await client.delete(key)
            await asyncio.gather(*(probe.until(lambda a: a[0] == 503, _LIMIT_S) for probe in probes))
    for probe in probes:
        probe.close()
    print(milliseconds("one more put to traffic", puts))
