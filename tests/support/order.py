"""In which order tests run that several processes share: in each, long ones first and quick ones last.

pytest-xdist cuts the list into a part for each process, and lets whoever has done its own take over tests from
the end of the longest one. So nobody is left alone with a long test at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

_LONG = ("browser", "integration")
_ROOT = Path(__file__).resolve().parents[1]


def is_long(path: Path) -> bool:
    """Whether its tests wait for real programs."""
    return _ROOT in path.parents and path.relative_to(_ROOT).parts[0] in _LONG


def for_processes(items: Sequence[pytest.Item], count: int) -> list[pytest.Item]:
    """The same tests, so that each of the `count` parts that they are cut into begins with long ones. Those of
    one file stay together, for they share what they have started.
    """
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    sizes = [(len(items) + part) // count for part in range(count)]
    parts: list[list[pytest.Item]] = [[] for _ in range(count)]
    quick = [item for file in files if not is_long(file[0].path) for item in file]
    for file in sorted((file for file in files if is_long(file[0].path)), key=len, reverse=True):
        min(parts, key=len).extend(file)
    ordered: list[pytest.Item] = []
    for part, size in zip(parts, sizes, strict=True):
        missing = max(0, size - len(part))
        ordered += part + quick[:missing]
        del quick[:missing]
    return ordered + quick
