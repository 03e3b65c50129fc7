"""Composes the numbers of the fleet: counts our own, tells them to whoever is looked at, and puts all together
while somebody looks at us.

| state    | meaning                               | leaves it                                       |
|----------|---------------------------------------|-------------------------------------------------|
| unseen   | nobody looks: own numbers are kept    | `look` -> viewed                                |
| viewed   | the port is open and its key in etcd, | no `look` for `LOOK_S` -> unseen, and the key   |
|          | if there are others                   | goes                                            |

Etcd carries no numbers, only where to send them: one write when somebody begins to look at an instance, one
when nobody does any more. The key is under the instance's lease, which is kept alive anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from weldr.control.admin.mirror import Mirror
from weldr.control.fleet.listening import Listening
from weldr.control.fleet.merged import Merged
from weldr.control.fleet.recent import Recent
from weldr.control.fleet.samples import SLOT_S, Sample
from weldr.control.fleet.telling import Telling, Viewer, viewer_of
from weldr.control.worker_pool import WorkerPool
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError
from weldr.model.keys import KeyName, KeySpace, Kind

logger = logging.getLogger(__name__)

LOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class FleetParts:
    """What the numbers are made from, and where they are told."""

    client: EtcdClient
    keys: KeySpace
    instance: str
    pool: WorkerPool
    mirror: Mirror
    lease_id: Callable[[], int | None]
    on_written: Callable[[int], None]
    follows: Callable[[], bool]


class Fleet:
    """Owner of the numbers. `run` counts the slots."""

    def __init__(self, parts: FleetParts) -> None:
        self._parts = parts
        self._recent = Recent()
        parts.pool.statistics.on_counted = self._recent.add
        self._telling = Telling(parts.instance, self._recent, self._sample)
        self._listening = Listening(self._hear, self._gone)
        self._merged: Merged | None = None
        self._looked_s = float("-inf")
        self._written: tuple[Viewer, int] | None = None
        """Our key and its lease, as it was last put, ..."""
        self._written_revision = 0
        """... and by which revision."""
        self._uncertain = False
        """Whether a put was not answered."""
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._told = ""

    def start(self) -> None:
        """Begin to count."""
        self._tasks = [
            asyncio.create_task(self._count(), name="numbers"),
            asyncio.create_task(self._arrange(), name="numbers-key"),
        ]

    async def close(self) -> None:
        """End. The key goes with the lease."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._telling.close()
        await self._listening.close()

    def follow(self) -> None:
        """The keys have changed."""
        viewers = {}
        for pair in self._parts.mirror.of_kind(Kind.VIEWER):
            viewer = viewer_of(pair.value)
            if viewer is not None:
                viewers[self._parts.keys.parse(pair.key).names[0]] = viewer
        self._telling.follow(viewers)
        if self._merged is not None:
            self._changed.set()

    def look(self) -> Merged:
        """Somebody looks: everything that is known now, and more of it soon."""
        self._looked_s = _now_s()
        if self._merged is None:
            merged = self._merged = Merged()
            merged.tick(self._recent.number)
            merged.add(self._parts.instance, self._sample(), self._looked_s)
            merged.add_past(self._parts.instance, list(self._recent.samples))
            self._changed.set()
        return self._merged

    @property
    def address(self) -> str:
        """Where the other instances have to reach us; empty while there is no need."""
        return self._listening.address

    # --- counting

    async def _count(self) -> None:
        due_s = _now_s() + SLOT_S
        while True:
            await asyncio.sleep(max(0.0, due_s - _now_s()))
            # After a stop of the process there is one long slot, and not many at once.
            due_s = max(due_s + SLOT_S, _now_s() + SLOT_S / 2)
            self._recent.close_slot()
            if self._merged is None and not self._telling.is_asked:
                continue
            sample = self._sample()
            if self._merged is not None:
                self._merged.tick(sample.number)
                self._merged.add(self._parts.instance, sample, _now_s())
                if _now_s() - self._looked_s > LOOK_S:
                    self._merged = None
                    self._changed.set()
            await self._telling.tell(sample)

    def _sample(self) -> Sample:
        return self._recent.sample(self._parts.pool.slots, follows=self._parts.follows())

    def _hear(self, instance: str, sample: Sample) -> None:
        if self._merged is None:
            return
        known = self._merged.heard().get(instance)
        if known is not None and sample.number < known[0].number:
            self._merged.add_past(instance, [sample])
        else:
            self._merged.add(instance, sample, _now_s())

    def _gone(self, instance: str) -> None:
        if self._merged is not None:
            self._merged.forget(instance)

    # --- saying where to tell us

    async def _arrange(self) -> None:
        """Bring port and key to what they should be, whenever that may have changed."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._arrange_once()
                self._told = ""
            except (EtcdError, OSError) as error:
                if str(error) != self._told:
                    self._told = str(error)
                    extra = {"reason": str(error)}
                    logger.warning("other instances cannot be asked for their numbers", extra=extra)
                self._changed.set()
                await asyncio.sleep(1.0)

    async def _arrange_once(self) -> None:
        parts, lease_id = self._parts, self._parts.lease_id()
        key = parts.keys.key(Kind.VIEWER, parts.instance)
        others = any(
            parts.keys.parse(pair.key).names[0] != parts.instance
            for pair in parts.mirror.of_kind(Kind.INSTANCE)
        )
        if self._merged is None:
            # Also where etcd has not said whether it took the key.
            if self._written is not None or self._uncertain:
                await self._listening.close()
                deleted, header = await parts.client.delete(key)
                self._written, self._uncertain = None, False
                if deleted:
                    parts.on_written(header.revision)
            return
        if not others or lease_id is None:
            return
        if not self._listening.address:
            await self._listening.open((each.host, each.port) for each in parts.client.config.endpoints)
        viewer = Viewer(self._listening.address, self._listening.key.hex())
        seen = parts.mirror.pair(KeyName(Kind.VIEWER, (parts.instance,)))
        lost = seen is None or viewer_of(seen.value) != viewer
        if self._written != (viewer, lease_id) or (lost and self._is_over):
            self._uncertain = True
            header = await parts.client.put(key, msgspec.json.encode(viewer), lease=lease_id)
            self._uncertain = False
            self._written, self._written_revision = (viewer, lease_id), header.revision
            parts.on_written(header.revision)

    @property
    def _is_over(self) -> bool:
        """Whether our last write has come back to us."""
        return self._parts.mirror.revision >= self._written_revision


def _now_s() -> float:
    return asyncio.get_running_loop().time()
