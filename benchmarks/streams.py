"""Open event streams: what 1,000 of them cost the manager, and how long they hold up a change."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import selectors
import socket
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from benchmarks.probe import Probe, milliseconds, probes_of_each_worker
from tests.support.etcd import EtcdServer, newest
from tests.support.instance import Instance
from tests.support.servers import NamedServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig

NAME = "streams"
_LIMIT_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--puts", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)


def run(options: argparse.Namespace) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with EtcdServer() as etcd, NamedServer("b1") as server:
        asyncio.run(_measure(etcd, server, options))


async def _measure(etcd: EtcdServer, server: NamedServer, options: argparse.Namespace) -> None:
    with Instance("--log-level", "info", etcd=etcd.endpoint, workers=options.workers) as weldr:
        weldr.wait_ready()
        async with EtcdClient(EtcdConfig.from_text(etcd.endpoint)) as client:
            await client.put(b"/weldr/routes/bench", b'{"host": "bench", "service": "bench"}')
            probes = await probes_of_each_worker(weldr.address, weldr.worker_pids())
            print(f"etcd {newest().label}, {options.workers} workers, {options.puts} puts each")
            await _puts(client, server, probes, 20)
            print(
                milliseconds(
                    "put to traffic, no streams    ", await _puts(client, server, probes, options.puts)
                )
            )
            before = _resident_bytes(weldr.pid)
            readers = _Readers(weldr.admin, options.streams)
            await asyncio.to_thread(readers.wait_open)
            cpu_s = _cpu_s(weldr.pid)
            found = await _puts(client, server, probes, options.puts)
            print(milliseconds(f"put to traffic, {options.streams} streams  ", found))
            cpu_s = _cpu_s(weldr.pid) - cpu_s
            grown = _resident_bytes(weldr.pid) - before
            print(f"manager: {grown / 2**20:.1f} MiB more, {cpu_s:.1f} s of CPU meanwhile")
            events = readers.close()
            print(f"events that reached all streams together: {events}")


async def _puts(client: EtcdClient, server: NamedServer, probes: list[Probe], count: int) -> list[float]:
    key, found = b"/weldr/backends/bench/b1", []
    for _ in range(count):
        started = time.monotonic()
        await client.put(key, server.address.encode())
        moments = await asyncio.gather(*(probe.until(lambda a: a[0] == 200, _LIMIT_S) for probe in probes))
        found += [moment - started for moment in moments]
        await client.delete(key)
        await asyncio.gather(*(probe.until(lambda a: a[0] == 503, _LIMIT_S) for probe in probes))
    return found


class _Readers:
    """Streams that are read in a process of their own."""

    def __init__(self, address: str, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._open, self._stop = context.Event(), context.Event()
        self._events = context.Value("q", 0)
        self._process = context.Process(
            target=_read, args=(address, count, self._open, self._stop, self._events)
        )
        self._process.start()

    def wait_open(self) -> None:
        if not self._open.wait(60):
            raise RuntimeError("the streams did not open")

    def close(self) -> int:
        self._stop.set()
        self._process.join(10)
        return int(self._events.value)


def _read(address: str, count: int, opened: Event, stop: Event, events: multiprocessing.Value) -> None:
    # Clients have machines of their own: they are not to take the time of what is measured.
    os.nice(19)
    host, _, port = address.rpartition(":")
    selector = selectors.DefaultSelector()
    for _ in range(count):
        stream = socket.create_connection((host, int(port)), 10)
        stream.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        while b"event: hello" not in stream.recv(65536):
            pass
        stream.setblocking(False)
        selector.register(stream, selectors.EVENT_READ)
        time.sleep(0.003)
    opened.set()
    found = 0
    while not stop.is_set():
        for key, _ in selector.select(0.2):
            data = key.fileobj.recv(1 << 20)
            if not data:
                raise RuntimeError("a stream was dropped")
            found += data.count(b"event: change")
    events.value = found


def _resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
