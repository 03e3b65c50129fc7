"""What the workers of this instance counted in the last two minutes, in slots of two seconds.

It is kept whether somebody looks or not, so that whoever comes to look sees what led to now. What it costs is
in proportion to what workers counted, never to what there is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from weldr.control.fleet.samples import (
    KEPT_SLOTS,
    MOST_BACKENDS,
    MOST_SERVICES,
    RECENT_SLOTS,
    BackendLoad,
    Counts,
    Sample,
)
from weldr.control.worker import SlotState, WorkerSlot
from weldr.model.frames import Tallies

Way = tuple[str, str]
Key = TypeVar("Key")
_SERVER_ERROR = 5


class Recent:
    """Owner of the slots. `close_slot` is called every `SLOT_S`."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=KEPT_SLOTS)
        """Those that are over, with services alone."""
        self._number = 0
        self._services: dict[str, Counts] = {}
        self._backends: dict[Way, Counts] = {}
        self._last_backends: deque[dict[Way, Counts]] = deque(maxlen=RECENT_SLOTS)
        self._left_out = 0
        self._told_left_out = 0

    def add(self, counted: Tallies) -> None:
        """A worker has counted this."""
        for tally in counted.tallies:
            service = self._counts(self._services, tally.service, MOST_SERVICES)
            if service is None:
                continue
            backend = None
            if tally.backend:
                backend = self._counts(self._backends, (tally.service, tally.backend), MOST_BACKENDS)
            for found in tally.counted():
                errors = found.requests if found.status_class == _SERVER_ERROR else 0
                service.requests += found.requests
                service.errors += errors
                service.latency[found.bucket] = service.latency.get(found.bucket, 0) + found.requests
                if backend is not None:
                    backend.requests += found.requests
                    backend.errors += errors

    def _counts(self, held: dict[Key, Counts], key: Key, most: int) -> Counts | None:
        counts = held.get(key)
        if counts is None:
            if len(held) >= most:
                self._left_out += 1
                return None
            counts = held[key] = Counts()
        return counts

    @property
    def number(self) -> int:
        """Of the newest slot that is over; 0 before there is one."""
        return self._number

    def close_slot(self) -> None:
        """The slot is over."""
        self._number += 1
        self.samples.append(Sample(self._number, self._services))
        self._last_backends.append(self._backends)
        self._services, self._backends = {}, {}
        self._told_left_out, self._left_out = self._left_out, 0

    def sample(self, slots: Iterable[WorkerSlot], *, follows: bool = True) -> Sample:
        """What there is to tell of the newest slot that is over, and of now."""
        workers = list(slots)
        beats = [worker.beat for worker in workers if worker.beat is not None]
        return Sample(
            number=self._number,
            services=self.samples[-1].services if self.samples else {},
            recent=self._recent(),
            backends=self._loads(workers),
            connections=sum(beat.connections for beat in beats),
            in_flight=sum(beat.in_flight for beat in beats),
            workers=len(workers),
            serving=sum(worker.state is SlotState.SERVING for worker in workers),
            follows=follows,
            left_out=self._told_left_out,
        )

    def _recent(self) -> dict[str, Counts]:
        found: dict[str, Counts] = {}
        for sample in list(self.samples)[-RECENT_SLOTS:]:
            for name, counts in sample.services.items():
                found.setdefault(name, Counts()).add(counts)
        return found

    def _loads(self, workers: Iterable[WorkerSlot]) -> dict[str, dict[str, BackendLoad]]:
        found: dict[str, dict[str, BackendLoad]] = {}
        for slot in self._last_backends:
            for (service, backend), counts in slot.items():
                load = found.setdefault(service, {}).setdefault(backend, BackendLoad())
                load.requests += counts.requests
                load.errors += counts.errors
        for worker in workers:
            for service, backend, in_flight in worker.loads[:MOST_BACKENDS]:
                found.setdefault(service, {}).setdefault(backend, BackendLoad()).in_flight += in_flight
        return found
