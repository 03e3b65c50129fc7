"""All workers of the instance: keeps them running and tells what they have applied together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from weldr.control.listeners import Listeners
from weldr.control.statistics import Statistics
from weldr.control.worker import SlotState, WorkerSlot
from weldr.model.catalog import Catalog
from weldr.model.frames import Silent, Sparing
from weldr.model.health import BackendKey, Standing

_TICK_S = 1.0
_LATE_S = 2.0
_KILL_AFTER_GRACE_S = 2.0


class WorkerPool:
    """`count` workers, each with its own listening sockets."""

    def __init__(
        self,
        count: int,
        listeners: Listeners,
        arguments: list[str],
        on_change: Callable[[], None],
        on_sparing: Callable[[str, Sparing | None], None],
        on_silent: Callable[[Silent], None],
    ) -> None:
        """`arguments` are passed to each worker program; `on_change` is called when any of them changed,
        `on_sparing` when one of them, by its name, spares other backends than before,
        and `on_silent` from whom it gets no answers.
        """
        self._standings: Mapping[BackendKey, Standing] = {}
        self._catalog: Catalog | None = None
        self.statistics = Statistics()
        """What all workers, also those that have ended, have counted."""
        self._ended = asyncio.Event()
        self.slots = [
            WorkerSlot(
                str(index),
                listeners.of_worker(index),
                arguments,
                lambda: self._catalog,
                self.statistics,
                lambda: self._standings,
                on_change,
                on_sparing,
                on_silent,
            )
            for index in range(count)
        ]

    def publish(self, catalog: Catalog, standings: Mapping[BackendKey, Standing]) -> None:
        """Bring every worker to this catalog and this health of the backends in it."""
        self._catalog = catalog
        self._standings = standings
        for slot in self.slots:
            slot.publish()

    @property
    def all_serving(self) -> bool:
        """Whether every worker has a catalog in force."""
        return all(slot.state is SlotState.SERVING for slot in self.slots)

    @property
    def any_serving(self) -> bool:
        """Whether a worker has a catalog in force."""
        return any(slot.state is SlotState.SERVING for slot in self.slots)

    @property
    def applied_revision(self) -> int:
        """The configuration that every worker which serves, serves; 0 before there is one.

        A worker that is only starting does not count: it serves nothing, and then begins with today's.
        """
        return min((slot.applied_revision for slot in self.slots if slot.applied_revision), default=0)

    @property
    def in_flight(self) -> dict[tuple[str, str], int]:
        """Requests in flight to backends that get no new ones, over all workers."""
        total: Counter[tuple[str, str]] = Counter()
        for slot in self.slots:
            total.update(slot.in_flight)
        return dict(total)

    @property
    def sparings(self) -> list[Sparing]:
        """Whom the workers spare now, each by its own account."""
        return [slot.sparing for slot in self.slots if slot.sparing is not None]

    def requests_since(self, since_s: float) -> int | None:
        """Requests under way, by what every worker has said since this moment of the event loop's clock; `None`
        if one has said nothing.
        """
        beats = [slot.beat if slot.beat_at_s > since_s else None for slot in self.slots]
        counts = [beat.in_flight for beat in beats if beat is not None]
        return sum(counts) if len(counts) == len(beats) else None

    async def run(self) -> None:
        """Run the workers until they have been drained."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch(), name="worker-liveness")
                running = [group.create_task(slot.run(), name=f"worker-{slot.name}") for slot in self.slots]
                await asyncio.wait(running)
                watch.cancel()
        finally:
            self._ended.set()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            late = loop.time() - due_s > _LATE_S
            for slot in self.slots:
                slot.check_alive(forgive=late)
            if self._catalog is not None:
                self.statistics.forget_absent(self._catalog.traffic)

    def stand_by(self) -> None:
        """Let no worker accept before `accept`. To be called before `run`."""
        for slot in self.slots:
            slot.stand_by()

    def accept(self) -> None:
        """Let the workers accept, from now on."""
        for slot in self.slots:
            slot.accept()

    async def drain(self, grace_s: float, *, patient: bool = False) -> None:
        """Let every worker finish what is in flight; return when all have ended.

        A `patient` one waits for the next request of idle clients. Can be called again, with less time, while
        it runs.
        """
        for slot in self.slots:
            slot.drain(grace_s, patient=patient)
        try:
            async with asyncio.timeout(grace_s + _KILL_AFTER_GRACE_S):
                await self._ended.wait()
        except TimeoutError:
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """End every worker at once, for good."""
        for slot in self.slots:
            slot.give_up()
