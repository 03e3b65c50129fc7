"""What goes on behind the clients' backs: backends that are killed and come back, keys that change."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from tests.soak.tally import Kills
from tests.support.ports import free_port
from weldr.etcd.client import EtcdClient

STEADY = "b0"
"""Never killed and always in rotation, so that there is somebody for every request."""

_SERVICES = ("default", "other")
_BACKENDS = "/weldr/backends"
_CHANGES = ("put", "delete", "drain", "override", "end override", "route")
_CHANGE_WEIGHTS = (6, 1, 1, 1, 4, 1)
"""So that most of the time most backends are in rotation."""


class Backend:
    """A backend process that keeps its port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        leash = [sys.executable, "-P", "-m", "weldr.control.leash", str(os.getpid())]
        self._process = await asyncio.create_subprocess_exec(
            *leash,
            *(sys.executable, "-m", "tests.soak.backend", self.name, str(self.port)),
            stdin=asyncio.subprocess.DEVNULL,
        )
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    def value(self, **more: object) -> bytes:
        """What its key holds."""
        return json.dumps({"url": f"http://127.0.0.1:{self.port}", **more}).encode("ascii")


class Churn:
    """Changes keys and kills backends until told to stop."""

    def __init__(
        self, client: EtcdClient, backends: list[Backend], kills: Kills, chance: random.Random
    ) -> None:
        self._client = client
        self._backends = backends
        self._kills = kills
        self._chance = chance
        self.changes = 0

    async def put_all(self) -> None:
        """Every backend in both services, and a route to the second."""
        for service in _SERVICES:
            for backend in self._backends:
                await self._put(_key(service, backend), backend.value())
        await self._put("/weldr/routes/other", b'{"host": "other", "service": "other"}')

    async def delete_all(self) -> None:
        """No backend at all."""
        for service in _SERVICES:
            for backend in self._backends:
                await self._client.delete(_key(service, backend).encode())

    async def change_keys(self, stopping: asyncio.Event) -> None:
        """A change every fraction of a second."""
        while not stopping.is_set():
            await self._change()
            self.changes += 1
            await asyncio.sleep(self._chance.random() * 0.2)

    async def kill_backends(self, stopping: asyncio.Event, interval_s: float) -> None:
        """Kill one after the other; each comes back after a while."""
        while not stopping.is_set():
            await asyncio.sleep(interval_s * (0.5 + self._chance.random()))
            backend = self._chance.choice(self._backends[1:])
            self._kills.add(backend.name)
            await backend.kill()
            await asyncio.sleep(self._chance.random() * 2)
            await backend.start()

    async def _change(self) -> None:
        service, backend = self._chance.choice(_SERVICES), self._chance.choice(self._backends)
        key = _key(service, backend)
        weight = self._chance.randrange(1, 5)
        if backend.name == STEADY:
            await self._put(key, backend.value(weight=weight))
            return
        match self._chance.choices(_CHANGES, _CHANGE_WEIGHTS)[0]:
            case "delete":
                await self._client.delete(key.encode())
            case "drain":
                await self._put(key, backend.value(drain=True))
            case "override":
                await self._put(f"/weldr/overrides/{service}/{backend.name}", b'{"drain": true}')
            case "end override":
                await self._client.delete(f"/weldr/overrides/{service}/{backend.name}".encode())
            case "route":
                await self._put(f"/weldr/routes/r{weight}", b'{"host": "nobody", "service": "default"}')
            case _:
                await self._put(key, backend.value(weight=weight))

    async def _put(self, key: str, value: bytes) -> None:
        await self._client.put(key.encode(), value)


def _key(service: str, backend: Backend) -> str:
    return f"{_BACKENDS}/{service}/{backend.name}"
