"""`python -m tests.support.steady HOST:PORT [--rate N] [--tunnels N]`: a steady load until its input ends.

Requests at a fixed rate: four of five on connections that are kept, the fifth on a connection of its own.
Beside them tunnels that say something every 50 ms. At the end one line of JSON tells what became of them. A
client's own rules are those of HTTP: who is told `Connection: close` opens another connection.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from dataclasses import asdict, dataclass, field

_KEPT = 32
_LIMIT_S = 20.0
_PAUSE_S = 0.05


@dataclass
class Tally:
    """What became of all."""

    good: int = 0
    on_new_connections: int = 0
    connections: int = 0
    seconds: float = 0.0
    bad: list[str] = field(default_factory=list)
    tunnels_cut: list[float] = field(default_factory=list)
    """When, by the monotonic clock."""
    echoes: int = 0


class Steady:
    """The load."""

    def __init__(self, host: str, port: int, rate: float) -> None:
        self.tally = Tally()
        self._host, self._port = host, port
        self._rate = rate
        self.begun = asyncio.Event()
        """Every client that keeps a connection has one."""
        self.stopped = asyncio.Event()

    async def kept(self) -> None:
        """One client with a connection that it keeps."""
        interval_s = _KEPT / (self._rate * 4 / 5)
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not self.stopped.is_set():
            try:
                async with asyncio.timeout(_LIMIT_S):
                    reader, writer = await asyncio.open_connection(self._host, self._port)
            except (OSError, TimeoutError) as error:
                self._fail("connecting", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            self.tally.connections += 1
            closing = False
            try:
                while not closing and not self.stopped.is_set():
                    closing = await self._ask(reader, writer, b"")
                    self.tally.good += 1
                    if self.tally.good >= _KEPT:
                        self.begun.set()
                    due_s = max(due_s + interval_s, loop.time())
                    await asyncio.sleep(due_s - loop.time())
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                self._fail("a kept connection", error)
            finally:
                writer.close()

    async def fresh(self) -> None:
        """Requests on connections of their own."""
        loop = asyncio.get_running_loop()
        due_s, running = loop.time(), set[asyncio.Task[None]]()
        while not self.stopped.is_set():
            if len(running) < 500:
                task = asyncio.create_task(self._one())
                running.add(task)
                task.add_done_callback(running.discard)
            due_s = max(due_s + 5 / self._rate, loop.time())
            await asyncio.sleep(due_s - loop.time())
        await asyncio.gather(*running)

    async def _one(self) -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
            self.tally.connections += 1
            try:
                await self._ask(reader, writer, b"Connection: close\r\n")
            finally:
                writer.close()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            self._fail("a new connection", error)
        else:
            self.tally.good += 1
            self.tally.on_new_connections += 1

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, field: bytes) -> bool:
        writer.write(b"GET / HTTP/1.1\r\nHost: steady\r\n" + field + b"\r\n")
        async with asyncio.timeout(_LIMIT_S):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head[:20]:
                raise ValueError(head[:60].decode("latin-1"))
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        return b"connection: close" in head

    async def tunnel(self, opened: asyncio.Event) -> None:
        """One that is open for as long as it may be."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(b"GET / HTTP/1.1\r\nHost: steady\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        try:
            async with asyncio.timeout(_LIMIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                self.tally.bad.append(f"no tunnel: {head[:60]!r}")
                return
            while not self.stopped.is_set():
                writer.write(b"x" * 64)
                async with asyncio.timeout(_LIMIT_S):
                    await reader.readexactly(64)
                self.tally.echoes += 1
                opened.set()
                await asyncio.sleep(_PAUSE_S)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self.tally.tunnels_cut.append(time.monotonic())
        finally:
            opened.set()
            writer.close()

    def _fail(self, where: str, error: Exception) -> None:
        self.tally.bad.append(f"{where}: {error!r}")
        self.begun.set()


async def _run(arguments: argparse.Namespace) -> Tally:
    host, _, port = arguments.address.rpartition(":")
    load = Steady(host.strip("[]"), int(port), arguments.rate)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    tasks = [asyncio.create_task(load.kept()) for _ in range(_KEPT)]
    tunnels = [asyncio.Event() for _ in range(arguments.tunnels)]
    tasks += [asyncio.create_task(load.tunnel(opened)) for opened in tunnels]
    tasks.append(asyncio.create_task(load.fresh()))
    await load.begun.wait()
    # Else one that comes late is not where those are that the load is about.
    for opened in tunnels:
        await opened.wait()
    print("running", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    load.stopped.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LIMIT_S + 10):
            await asyncio.gather(*tasks)
    load.tally.seconds = loop.time() - began_s
    return load.tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--tunnels", type=int, default=0)
    print(json.dumps(asdict(asyncio.run(_run(parser.parse_args())))), flush=True)
