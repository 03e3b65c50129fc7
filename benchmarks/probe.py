"""Watches, from outside, when a change reaches each worker: kept connections that ask again and again.

The moment a change is in force on a worker is the moment at which the first request was sent that it answered
accordingly, so what is measured is an upper bound by the length of one request.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable

from tests.support.servers import read_response
from tests.support.workers import worker_of_client_ports

_CONNECTIONS_TO_TRY = 200


class Probe:
    """One kept connection to one worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def port(self) -> int:
        port: int = self._writer.get_extra_info("sockname")[1]
        return port

    async def ask(self, path: str = "/", host: str = "bench") -> tuple[int, str]:
        """One request: status and body."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        status, _, body = await read_response(self._reader)
        return status, body

    async def until(
        self, seen: Callable[[tuple[int, str]], bool], limit_s: float, host: str = "bench"
    ) -> float:
        """When the first request was sent whose answer is `seen`."""
        deadline = time.monotonic() + limit_s
        while True:
            sent = time.monotonic()
            if seen(await self.ask(host=host)):
                return sent
            if sent > deadline:
                raise TimeoutError(f"the change was not in force within {limit_s} s")

    def close(self) -> None:
        self._writer.close()


async def probes_of_each_worker(address: str, workers: list[int]) -> list[Probe]:
    """One probe for each worker; the kernel decides where a connection goes, so more are opened and closed."""
    host, _, port = address.rpartition(":")
    opened = [Probe(*await asyncio.open_connection(host, int(port))) for _ in range(_CONNECTIONS_TO_TRY)]
    for probe in opened:
        await probe.ask()
    worker_of_port = worker_of_client_ports(workers, int(port))
    chosen: dict[int, Probe] = {}
    for probe in opened:
        if chosen.setdefault(worker_of_port[probe.port], probe) is not probe:
            probe.close()
    if len(chosen) != len(workers):
        raise RuntimeError("not every worker got a connection")
    return list(chosen.values())


def milliseconds(name: str, seconds: Iterable[float]) -> str:
    """One line: count, median, 99th percentile, maximum."""
    values = sorted(value * 1000 for value in seconds)
    p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
    figures = f"p50={statistics.median(values):8.2f}  p99={p99:8.2f}  max={values[-1]:8.2f} ms"
    return f"{name:28} n={len(values):4}  {figures}"
