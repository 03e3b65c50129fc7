"""What a scrape of `/metrics` costs with many services and backends, and what it costs others meanwhile."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
import time
from pathlib import Path

from benchmarks.probe import milliseconds, probes_of_each_worker
from tests.support.admin import Api
from tests.support.etcd import EtcdServer, newest
from tests.support.instance import Instance, http_get
from tests.support.metrics import OPENMETRICS
from tests.support.servers import NamedServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.operations import Put

NAME = "metrics"
_KEYS_IN_TRANSACTION = 100
_LIMIT_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--scrapes", type=int, default=10)
    parser.add_argument("--puts", type=int, default=100)


def run(options: argparse.Namespace) -> None:
    with EtcdServer() as etcd, NamedServer("b1") as server:
        asyncio.run(_measure(etcd, server, options))


async def _measure(etcd: EtcdServer, server: NamedServer, options: argparse.Namespace) -> None:
    async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client:
        puts = [
            Put(f"/weldr/backends/s{index % options.services}/b{index}".encode(), server.address.encode())
            for index in range(options.backends)
        ]
        puts += [
            Put(
                f"/weldr/routes/s{index}".encode(),
                json.dumps({"host": f"s{index}", "service": f"s{index}"}).encode(),
            )
            for index in range(options.services)
        ]
        puts.append(Put(b"/weldr/routes/bench", json.dumps({"host": "bench", "service": "bench"}).encode()))
        for first in range(0, len(puts), _KEYS_IN_TRANSACTION):
            await client.transaction([], puts[first : first + _KEYS_IN_TRANSACTION], [])
        with Instance("--log-level", "info", etcd=etcd.endpoint, workers=1) as weldr:
            weldr.wait_ready()
            # Each backend gets a request, so that each has all of its series.
            for index in range(options.backends):
                http_get(f"http://{weldr.address}/", host=f"s{index % options.services}")
            size = f"{options.backends} backends in {options.services} services"
            print(f"etcd {newest().label}, {size}, every backend with one request, 1 worker")
            await _scrapes(weldr, options.scrapes)
            print(milliseconds("put to traffic, no scrape", await _puts(client, server, weldr, options.puts)))
            over = threading.Event()
            scraping = asyncio.create_task(asyncio.to_thread(_scrape_until, over, weldr.admin))
            print(milliseconds("put to traffic, always one", await _puts(client, server, weldr, options.puts)))
            over.set()
            await scraping


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _scrapes(weldr: Instance, count: int) -> None:
    took: list[float] = []
    began_cpu_s = _cpu_s(weldr.pid)
    for _ in range(count):
        began_s = time.monotonic()
        text = await asyncio.to_thread(_scrape, weldr.admin)
        took.append(time.monotonic() - began_s)
    cpu_ms = (_cpu_s(weldr.pid) - began_cpu_s) / count * 1000
    samples = sum(not line.startswith(b"#") for line in text.splitlines())
    print(f"a scrape: {samples} samples, {len(text) / 1e6:.1f} MB, {cpu_ms:.0f} ms of the manager's CPU")
    print(milliseconds("a scrape", took))


def _scrape(admin: str) -> bytes:
    return Api(admin).call("GET", "/metrics", headers={"Accept": OPENMETRICS}).body


def _scrape_until(over: threading.Event, admin: str) -> None:
    while not over.is_set():
        _scrape(admin)


async def _puts(client: EtcdClient, server: NamedServer, weldr: Instance, count: int) -> list[float]:
    (probe,) = await probes_of_each_worker(weldr.address, weldr.worker_pids())
    key = b"/weldr/backends/bench/b1"
    took: list[float] = []
    for _ in range(count):
        began_s = time.monotonic()
        await client.put(key, server.address.encode())
        took.append(await probe.until(lambda answer: answer[0] == 200, _LIMIT_S) - began_s)
        await client.delete(key)
        await probe.until(lambda answer: answer[0] == 503, _LIMIT_S)
    probe.close()
    return took
