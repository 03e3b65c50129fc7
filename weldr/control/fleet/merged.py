"""The samples of all instances, put together by time. Pure.

Instances count their slots each for itself, and their clocks need not agree: an instance's slots are placed by
when its newest one arrives, and keep that place while they come one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from weldr.control.fleet.samples import KEPT_SLOTS, RECENT_SLOTS, SLOT_S, BackendLoad, Counts, Sample


class Rates(msgspec.Struct, array_like=True, frozen=True):
    """Requests and errors per second, and latencies in seconds; `null` without requests."""

    requests_per_s: float
    errors_per_s: float
    p50_s: float | None
    p99_s: float | None

    @classmethod
    def of(cls, counts: Counts, elapsed_s: float) -> Rates:
        """What these counts of so long a time come to."""
        return cls(
            round(counts.requests / elapsed_s, 2),
            round(counts.errors / elapsed_s, 2),
            _rounded(counts.quantile_s(0.5)),
            _rounded(counts.quantile_s(0.99)),
        )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


@dataclass(slots=True)
class _Source:
    """An instance."""

    newest: Sample
    offset: int
    """From its numbers to ours."""
    heard_s: float


@dataclass(slots=True)
class Merged:
    """Owner of the sums."""

    slots: dict[int, dict[str, Counts]] = field(default_factory=dict)
    """By our numbers and by service."""
    epoch: int = 0
    """Grows when the past has changed."""
    number: int = 0
    """Our newest slot that is over."""
    _sources: dict[str, _Source] = field(default_factory=dict)
    _rates: dict[int, dict[str, Rates]] = field(default_factory=dict)
    _services_now: dict[str, Rates] | None = None
    """Made once for all that look, until there are other samples."""
    _backends_now: dict[str, dict[str, list[float]]] | None = None

    def add(self, instance: str, sample: Sample, now_s: float) -> None:
        """The newest slot of an instance."""
        source = self._sources.get(instance)
        offset = self.number - sample.number
        # A tick that comes a little early or late is no reason to leave a gap.
        if source is not None and abs(source.offset - offset) <= 1 and sample.number > source.newest.number:
            offset = source.offset
        self._sources[instance] = _Source(sample, offset, now_s)
        self._services_now = self._backends_now = None
        self._place(sample.number + offset, sample)

    def add_past(self, instance: str, samples: list[Sample]) -> None:
        """Slots of an instance before its newest, which was added already."""
        source = self._sources[instance]
        for sample in samples:
            if sample.number < source.newest.number:
                self._place(sample.number + source.offset, sample)
        self.epoch += 1

    def forget(self, instance: str) -> None:
        """It tells no more. What it told remains."""
        self._sources.pop(instance, None)
        self._services_now = self._backends_now = None

    def _place(self, number: int, sample: Sample) -> None:
        if number <= self.number - KEPT_SLOTS:
            return
        slot = self.slots.setdefault(number, {})
        for name, counts in sample.services.items():
            slot.setdefault(name, Counts()).add(counts)
        self._rates.pop(number, None)

    def tick(self, number: int) -> None:
        """Our slot of this number is over."""
        self.number = number
        for old in [held for held in self.slots if held <= number - KEPT_SLOTS]:
            del self.slots[old]
        for old in [held for held in self._rates if held <= number - KEPT_SLOTS]:
            del self._rates[old]

    @property
    def complete(self) -> int:
        """The newest slot that every instance has had the time to tell of."""
        return self.number - 1

    def rates(self, number: int) -> dict[str, Rates]:
        """Of a slot, by service."""
        found = self._rates.get(number)
        if found is None:
            found = {name: Rates.of(counts, SLOT_S) for name, counts in self.slots.get(number, {}).items()}
            if number <= self.complete:
                self._rates[number] = found
        return found

    def heard(self) -> Mapping[str, tuple[Sample, float]]:
        """The newest of each instance, and when it came."""
        return {name: (source.newest, source.heard_s) for name, source in self._sources.items()}

    def services_now(self) -> dict[str, Rates]:
        """Of each service, over the last slots of all instances."""
        if self._services_now is not None:
            return self._services_now
        sums: dict[str, Counts] = {}
        for sample in self._newest():
            for name, counts in sample.recent.items():
                sums.setdefault(name, Counts()).add(counts)
        elapsed_s = SLOT_S * RECENT_SLOTS
        self._services_now = {name: Rates.of(counts, elapsed_s) for name, counts in sums.items()}
        return self._services_now

    def backends_now(self) -> dict[str, dict[str, list[float]]]:
        """By service and backend: requests/s and errors/s over the last slots, and requests in flight now."""
        if self._backends_now is not None:
            return self._backends_now
        sums: dict[str, dict[str, BackendLoad]] = {}
        for sample in self._newest():
            for service, backends in sample.backends.items():
                held = sums.setdefault(service, {})
                for name, load in backends.items():
                    total = held.setdefault(name, BackendLoad())
                    total.requests += load.requests
                    total.errors += load.errors
                    total.in_flight += load.in_flight
        elapsed_s = SLOT_S * RECENT_SLOTS
        self._backends_now = {
            service: {
                name: [
                    round(load.requests / elapsed_s, 2),
                    round(load.errors / elapsed_s, 2),
                    load.in_flight,
                ]
                for name, load in backends.items()
            }
            for service, backends in sums.items()
        }
        return self._backends_now

    def _newest(self) -> Iterator[Sample]:
        return (source.newest for source in self._sources.values())
