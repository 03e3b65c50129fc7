"""Active checks of 10,000 backends: what they cost the manager, and how evenly they come."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from multiprocessing import Process, Queue
from pathlib import Path
from typing import cast

import uvloop

from tests.support.etcd import EtcdServer, newest
from tests.support.instance import Instance
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.operations import Put

NAME = "checks"
_KEYS_IN_TRANSACTION = 100
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backends", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--interval", type=float, default=10.0, metavar="S")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--type", choices=("http", "tcp"), default="http")


def run(options: argparse.Namespace) -> None:
    ports: Queue[int] = Queue()
    counts: Queue[list[int]] = Queue()
    origin = Process(target=_origin, args=(ports, counts), daemon=True)
    origin.start()
    try:
        with EtcdServer() as etcd:
            asyncio.run(_fill(etcd, ports.get(timeout=30), options))
            _measure(etcd, counts, options)
    finally:
        origin.kill()


def _measure(etcd: EtcdServer, counts: Queue[list[int]], options: argparse.Namespace) -> None:
    with Instance("--log-level", "info", etcd=etcd.endpoint) as weldr:
        weldr.wait_ready()
        time.sleep(options.interval + 2)
        while not counts.empty():
            counts.get()
        before_s, started = _cpu_s(weldr.pid), time.monotonic()
        time.sleep(options.seconds)
        took_s, cpu_s = time.monotonic() - started, _cpu_s(weldr.pid) - before_s
        tenths: list[int] = []
        while not counts.empty():
            tenths += counts.get()
        checks = sum(tenths)
        checked = f"{options.backends} backends, {options.type} checks every {options.interval:g} s"
        print(f"etcd {newest().label}, {checked}")
        print(f"checks                        {checks / took_s:8.0f} /s")
        print(f"CPU of the manager            {100 * cpu_s / took_s:8.1f} % of a core")
        print(f"of it, for each check         {1e6 * cpu_s / max(1, checks):8.0f} µs")
        print(
            f"checks in a tenth of a second {statistics.mean(tenths):8.0f} mean, {min(tenths)} to {max(tenths)}"
        )
        print(f"found down                    {len(weldr.logged('a backend is down')):8}")


async def _fill(etcd: EtcdServer, port: int, options: argparse.Namespace) -> None:
    """Backends at as many addresses of this machine: the whole of 127.0.0.0/8 is."""
    check = {"type": options.type, "interval_s": options.interval}
    puts = [
        Put(f"/weldr/services/s{index}".encode(), json.dumps({"health": check}).encode())
        for index in range(options.services)
    ]
    for index in range(options.backends):
        address = f"127.{index // 62_500 + 1}.{index // 250 % 250}.{index % 250 + 1}:{port}"
        puts.append(Put(f"/weldr/backends/s{index % options.services}/b{index}".encode(), address.encode()))
    async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client:
        for first in range(0, len(puts), _KEYS_IN_TRANSACTION):
            await client.transaction([], puts[first : first + _KEYS_IN_TRANSACTION], [])


def _cpu_s(pid: int) -> float:
    """Of this process alone: its workers have nothing to do with checks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _origin(ports: Queue[int], counts: Queue[list[int]]) -> None:
    """All backends in one: tells how many connections came in each tenth of a second."""
    count = 0

    class Backend(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal count
            count += 1
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            self.transport.write(_ANSWER)
            self.transport.close()

    async def serve() -> None:
        nonlocal count
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Backend, "0.0.0.0", 0, backlog=4096)
        ports.put(server.sockets[0].getsockname()[1])
        due_s = loop.time()
        while True:
            due_s += 0.1
            await asyncio.sleep(due_s - loop.time())
            counts.put([count])
            count = 0

    uvloop.run(serve())
