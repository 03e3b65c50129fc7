"""What a process and its children took, as the kernel counts it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> Iterator[int]:
    """The process and all that descend from it."""
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from process_tree(int(child))


def cpu_s(pid: int) -> float:
    """User and system time of the tree, with that of children that have ended."""
    ticks = 0
    for each in process_tree(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Memory of the tree, each page that several processes share divided among them (PSS)."""
    return sum(_memory_bytes(each, "Pss") for each in process_tree(pid))


def largest_memory_bytes(pid: int) -> int:
    """Memory of the largest process in the tree, the pages that it shares counted whole (RSS)."""
    return max(_memory_bytes(each, "Rss") for each in process_tree(pid))


def _memory_bytes(pid: int, kind: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) * 1024
    return 0
