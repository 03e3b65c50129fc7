"""A fleet with everything in it that the dashboard shows: instances, services with traffic, trouble.

The servers behind it are real, and answer late or with errors as their service is told to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance
from tests.support.ports import free_port
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig

PREFIX = "/weldr/"
LEASE_S = 30
_TALKERS = 6

_WORDS = (
    "accounts api assets audit avatar basket billing blog cache cart catalog chat checkout comments consent"
    " delivery discounts documents events exports feed files geo identity images imports inbox inventory"
    " jobs ledger locale login mailer maps media notify orders payments pricing profile ratings recommend"
    " refunds reports returns reviews search sessions settings shipping stock subscriptions support tags tax"
)


@dataclass(frozen=True)
class Character:
    """How a service behaves."""

    per_s: float
    median_ms: float
    spread: float
    error_share: float


class _Behind:
    """One server for all services: the path says which one is asked, and that how it answers."""

    def __init__(self, characters: dict[str, Character]) -> None:
        self._characters = characters
        self._chance = random.Random(7)
        self.port = 0

    async def start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                character = self._characters.get(head.split(b" ", 2)[1].strip(b"/").decode())
                status = b"200 OK"
                if character is not None:
                    late_s = character.median_ms / 1000 * self._chance.lognormvariate(0, character.spread)
                    await asyncio.sleep(late_s)
                    if self._chance.random() < character.error_share:
                        status = b"500 Internal Server Error"
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
        writer.close()


class Showcase:
    """Instances on one etcd, `services` services with `backends` backends in all, and traffic if `talks`."""

    def __init__(
        self, instances: int = 3, services: int = 50, backends: int = 500, *, talks: bool = True
    ) -> None:
        chance, words = random.Random(3), _WORDS.split()
        names = [
            words[index % len(words)] + ("" if index < len(words) else f"-{index}") for index in range(services)
        ]
        self.characters = {
            name: Character(
                per_s=round(chance.lognormvariate(0, 1.1), 2),
                median_ms=chance.lognormvariate(1.8, 0.8),
                spread=chance.uniform(0.2, 0.7),
                error_share=chance.choice((0, 0, 0, 0, 0, 0.004, 0.05)),
            )
            for name in names
        }
        self._sizes = dict.fromkeys(names, backends // services)
        self._count = instances
        self._talks = talks
        self._stack = contextlib.ExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._leases: list[int] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._behind = _Behind(self.characters)

    def __enter__(self) -> Showcase:
        try:
            self._thread.start()
            self.etcd = self._stack.enter_context(EtcdServer())
            self._wait(self._fill())
            self.instances = [
                self._stack.enter_context(
                    Instance(
                        "--instance",
                        f"edge-{index + 1}",
                        "--log-level",
                        "info",
                        etcd=self.etcd.endpoint,
                        workers=1,
                    )
                )
                for index in range(self._count)
            ]
            for instance in self.instances:
                instance.wait_ready()
            if self._talks:
                self._loop.call_soon_threadsafe(self._talk)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()
        if self._thread.is_alive():
            self._wait(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def put(self, key: str, value: object, *, lease: int = 0) -> None:
        """Write a key."""
        self._wait(self._put(key, value, lease))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _put(self, key: str, value: object, lease: int = 0) -> None:
        raw = value if isinstance(value, str) else json.dumps(value)
        await self._client.put(f"{PREFIX}{key}".encode(), raw.encode(), lease=lease)

    async def _fill(self) -> None:
        await self._behind.start()
        self._client = EtcdClient(EtcdConfig.from_text(self.etcd.endpoint))
        await self._client.__aenter__()
        for index, name in enumerate(self.characters):
            lease = (await self._client.grant_lease(LEASE_S)).id
            self._leases.append(lease)
            for number in range(self._sizes[name]):
                value = {"url": f"http://127.0.0.1:{self._behind.port}", "weight": 1 + (number % 7 == 3)}
                await self._put(f"backends/{name}/{name}-{number + 1}", value, 0 if number == 0 else lease)
            await self._put(f"routes/{name}", {"host": "shop.example", "path": f"/{name}", "service": name})
            if index % 5 == 0:
                await self._put(f"services/{name}", {"ejection": {"minimum_requests": 0}})
        self._tasks.append(asyncio.create_task(self._keep_alive()))

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 4)
            for lease in self._leases:
                await self._client.renew_lease(lease)

    def trouble(self) -> None:
        """One of each kind."""
        first, second, third = list(self.characters)[:3]
        nobody = free_port()
        health = {"type": "tcp", "interval_s": 1, "fall": 2, "rise": 1}
        self.put(f"services/{first}", {"health": health})
        self.put(f"backends/{first}/{first}-9", f"127.0.0.1:{nobody}")
        self.put(f"overrides/{first}/{first}-2", {"drain": True})
        self.put(f"overrides/{first}/{first}-3", {"weight": 5})
        self.put(f"services/{second}", {"timeouts": {"connect_s": "soon"}})
        self.put("routes/typo", {"hots": "shop.example", "service": third})
        self.put("routes/old-shop", {"host": "*.example", "redirect": {"host": "shop.example", "status": 301}})
        self.put(
            "routes/beta",
            {
                "host": "shop.example",
                "headers": {"x-beta": "yes"},
                "priority": 10,
                "services": {first: 9, third: 1},
            },
        )
        self.put("vips/front", {"address": "10.20.0.100", "announce": "none"})
        self.put("vips/internal", {"address": "10.20.0.101", "announce": "none"})

    def _talk(self) -> None:
        for index in range(_TALKERS):
            self._tasks.append(asyncio.create_task(self._talker(index)))

    async def _talker(self, index: int) -> None:
        """Requests one after the other, of each service as often as it is asked for."""
        names = list(self.characters)
        weights = [self.characters[name].per_s for name in names]
        pause_s = _TALKERS / sum(weights)
        chance = random.Random(index)
        host, _, port = self.instances[index % self._count].address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                name = chance.choices(names, weights)[0]
                writer.write(f"GET /{name} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(chance.expovariate(1 / pause_s))

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_client"):
            await self._client.close()
