"""Memory and descriptors of each process, and whether they grow."""

from __future__ import annotations

import asyncio
import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_INTERVAL_S = 5.0
MEMORY_GROWTH_MIB = 6.0
MEMORY_GROWTH_SHARE = 0.1
"""What the medians of the first and the last quarter may differ by: the larger of the two."""
DESCRIPTOR_GROWTH = 30
"""As many come and go with the clients of the moment."""
AT_REST_MORE = 2
"""How many more descriptors than before there may be when all clients and backends are gone."""


@dataclass
class Process:
    """One process of the instance."""

    name: str
    pid: int
    memory_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    descriptors_before: int = 0
    descriptors_after: int = 0

    def sample(self) -> None:
        self.memory_mib.append(_memory_mib(self.pid))
        self.descriptors.append(self.count_descriptors())

    def count_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def faults(self) -> list[str]:
        """What is beyond the bounds."""
        found = []
        first, last = _ends(self.memory_mib)
        if last - first > max(MEMORY_GROWTH_MIB, first * MEMORY_GROWTH_SHARE):
            found.append(f"the memory of {self.name} grew from {first:.1f} to {last:.1f} MiB")
        first, last = _ends([float(count) for count in self.descriptors])
        if last - first > DESCRIPTOR_GROWTH:
            found.append(f"the descriptors of {self.name} grew from {first:.0f} to {last:.0f}")
        if self.descriptors_after > self.descriptors_before + AT_REST_MORE:
            counts = f"{self.descriptors_before} before, {self.descriptors_after} after"
            found.append(f"{self.name} keeps descriptors when all is over: {counts}")
        return found

    def row(self) -> str:
        """A line of the table."""
        memory, counts = _ends(self.memory_mib), _ends([float(count) for count in self.descriptors])
        return (
            f"{self.name:10} {memory[0]:9.1f} {memory[1]:9.1f} {max(self.memory_mib):9.1f}"
            f" {counts[0]:8.0f} {counts[1]:8.0f} {max(self.descriptors):8}"
            f" {self.descriptors_before:8} {self.descriptors_after:8}"
        )


HEADING = (
    f"{'':10} {'MiB':>9} {'':>9} {'':>9} {'fds':>8}\n"
    f"{'process':10} {'first 1/4':>9} {'last 1/4':>9} {'most':>9}"
    f" {'first':>8} {'last':>8} {'most':>8} {'before':>8} {'after':>8}"
)


def _ends(samples: list[float]) -> tuple[float, float]:
    """The medians of the first and of the last quarter."""
    quarter = max(1, len(samples) // 4)
    return statistics.median(samples[:quarter]), statistics.median(samples[-quarter:])


def _memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


async def sample_all(processes: list[Process], stopping: asyncio.Event, warm_up_s: float) -> None:
    """After the warm-up, at intervals."""
    await asyncio.sleep(warm_up_s)
    while not stopping.is_set():
        for process in processes:
            process.sample()
        await asyncio.sleep(SAMPLE_INTERVAL_S)
