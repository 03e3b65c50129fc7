"""Tests that several processes share are dealt so that the long ones come first in each process."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support import order

ROOT = order._ROOT
FOLDERS = ("browser", "conformance", "integration/proxy", "unit")
FILES = st.lists(st.tuples(st.sampled_from(FOLDERS), st.integers(1, 30)), max_size=30)


def collected(files: list[tuple[str, int]]) -> list[Any]:
    return [
        SimpleNamespace(path=ROOT / folder / f"test_{index}.py", number=number)
        for index, (folder, size) in enumerate(sorted(files))
        for number in range(size)
    ]


@given(FILES, st.integers(2, 8))
def test_each_test_runs_once_and_files_of_long_ones_stay_together(
    files: list[tuple[str, int]], count: int
) -> None:
    items = collected(files)
    ordered = order.for_processes(items, count)
    assert sorted(ordered, key=id) == sorted(items, key=id)
    for path, group in groupby((item for item in ordered if order.is_long(item.path)), lambda item: item.path):
        assert [item.number for item in group] == [item.number for item in items if item.path == path]


def test_each_part_begins_with_long_ones_and_ends_with_quick_ones() -> None:
    items = collected([("integration/proxy", 10), ("browser", 6), ("integration/proxy", 4), ("unit", 83)])
    ordered = order.for_processes(items, 2)
    for part in (ordered[:51], ordered[51:]):
        kinds = [order.is_long(item.path) for item in part]
        assert kinds == [True] * 10 + [False] * (len(part) - 10)
