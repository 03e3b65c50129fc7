"""A real worker process at the end of a real channel, with the test in the manager's place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from weldr.model.frames import (
    Applied,
    Beat,
    Drain,
    FrameReader,
    Health,
    InFlight,
    Silent,
    Sparing,
    Tallies,
    Update,
    Upward,
    encode_frame,
)
from weldr.model.health import BackendKey, Standing
from weldr.model.incidents import Incidents
from weldr.model.tally import Tally
from weldr.model.traffic import ServiceTraffic, Traffic, TrafficDelta, difference
from weldr.model.values import Backend, Route, Service, Settings

LIMIT_S = 30.0


class Worker:
    """One worker. Its first update is sent by `serve`."""

    def __init__(
        self, process: subprocess.Popen[bytes], channel: socket.socket, listener: socket.socket
    ) -> None:
        self.process = process
        self.listener = listener
        self.port: int = listener.getsockname()[1]
        self.revision = 0
        self.applied: list[Applied] = []
        self.in_flight: list[list[tuple[str, str, int]]] = []
        self.beats: list[Beat] = []
        self.tallies: list[Tallies] = []
        self.sparing: list[Sparing] = []
        self.silent: list[Silent] = []
        self.log_path = Path(os.devnull)
        self.access_log_path = Path(os.devnull)
        self._sent = Traffic()
        self._news = asyncio.Condition()
        self._channel = channel
        self._gone = False
        self._reading: asyncio.Task[None] | None = None
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def open_channel(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(sock=self._channel)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        frames: FrameReader[Upward] = FrameReader(Upward)
        with contextlib.suppress(OSError):
            while data := await self.reader.read(65536):
                for frame in frames.feed(data):
                    async with self._news:
                        if isinstance(frame, Applied):
                            self.applied.append(frame)
                        elif isinstance(frame, InFlight):
                            self.in_flight.append(frame.in_flight)
                        elif isinstance(frame, Sparing):
                            self.sparing.append(frame)
                        elif isinstance(frame, Silent):
                            self.silent.append(frame)
                        elif isinstance(frame, Beat):
                            self.beats.append(frame)
                        elif isinstance(frame, Tallies):
                            self.tallies.append(frame)
                        self._news.notify_all()
        async with self._news:
            self._gone = True
            self._news.notify_all()

    async def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Wait for a frame that makes `condition` true."""
        async with asyncio.timeout(LIMIT_S), self._news:
            value = await self._news.wait_for(lambda: condition() or self._gone)
        assert condition(), f"the worker is gone:\n{self.log}"
        return value

    def send(self, traffic: Traffic) -> int:
        """Send the difference to `traffic`; return its revision."""
        delta, self._sent = difference(self._sent, traffic), traffic
        return self.send_delta(delta)

    def send_delta(self, delta: TrafficDelta) -> int:
        self.revision += 1
        self.writer.write(encode_frame(Update(self.revision, delta)))
        return self.revision

    def stand(self, standings: dict[BackendKey, Standing]) -> None:
        """Say what the manager's checks say."""
        self.writer.write(encode_frame(Health(list(standings.items()))))

    async def serve(self, traffic: Traffic) -> Applied:
        """Bring `traffic` into force."""
        revision = self.send(traffic)
        await self.wait_for(lambda: any(frame.revision == revision for frame in self.applied))
        return next(frame for frame in self.applied if frame.revision == revision)

    def drain(self, grace_s: float = 10.0) -> None:
        self.writer.write(encode_frame(Drain(grace_s)))

    async def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit status."""
        return await asyncio.get_running_loop().run_in_executor(None, self.process.wait, limit_s)

    def counted(self, service: str, backend: str) -> Tally:
        """What it has counted so far of the requests that went this way."""
        total = Tally(service, backend)
        for frame in self.tallies:
            for tally in frame.tallies:
                if (tally.service, tally.backend) == (service, backend):
                    total.add(tally)
        return total

    def incidents(self, service: str) -> Incidents:
        """What it has counted so far of what befell the requests of this service."""
        total = Incidents(service=service)
        for frame in self.tallies:
            for each in frame.incidents:
                if each.service == service:
                    total.add(each)
        return total

    @property
    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the worker is gone")

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def log(self) -> str:
        return self.log_path.read_text()


@contextlib.asynccontextmanager
async def running_worker(
    log_path: Path,
    *,
    host: str = "127.0.0.1",
    descriptors: int | None = None,
    access_log_path: Path | None = None,
    zone: str = "",
) -> AsyncIterator[Worker]:
    """A worker that listens, and has been sent nothing yet; `descriptors` is how many it may open at most."""
    access_log_path = access_log_path or log_path.with_suffix(".access")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    mine, theirs = socket.socketpair()
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, 0))
    listener.listen(4096)
    with log_path.open("wb") as log, access_log_path.open("wb") as access_log:
        process = subprocess.Popen(  # noqa: ASYNC220
            [
                *(("prlimit", f"--nofile={descriptors}:{descriptors}") if descriptors else ()),
                *(sys.executable, "-P", "-m", "weldr.proxy", "--name", "0", "--log-level", "debug"),
                *("--channel-fd", str(theirs.fileno()), "--listen-fd", str(listener.fileno())),
                *("--log-format", "json", "--grace", "10", f"--zone={zone}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=access_log,
            stderr=log,
            pass_fds=(theirs.fileno(), listener.fileno()),
        )
    theirs.close()
    mine.setblocking(False)
    worker = Worker(process, mine, listener)
    worker.log_path = log_path
    worker.access_log_path = access_log_path
    try:
        await worker.open_channel()
        yield worker
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_S)
        listener.close()
        worker.writer.close()
        if worker._reading is not None:
            worker._reading.cancel()


def traffic(
    *backends: int | Backend,
    services: dict[str, dict[str, Backend]] | None = None,
    routes: dict[str, Route] | None = None,
    settings: Settings | None = None,
    policy: Service | None = None,
) -> Traffic:
    """A catalog. The positional ones, ports or backends, are the service `default`, with ids b1, b2 …"""
    all_services = {name: ServiceTraffic(backends=dict(members)) for name, members in (services or {}).items()}
    if backends:
        members = {
            f"b{number}": Backend(host="127.0.0.1", port=each) if isinstance(each, int) else each
            for number, each in enumerate(backends, 1)
        }
        all_services["default"] = ServiceTraffic(policy=policy or Service(), backends=members)
    return Traffic(services=all_services, routes=dict(routes or {}), settings=settings or Settings())
