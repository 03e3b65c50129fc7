"""Counting what happened lately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weldr.proxy.window import Window


def test_what_happened_within_the_window_counts() -> None:
    window = Window(10)
    window.add(100.5)
    window.add(105.5, 3)
    assert window.total(109.9) == 4
    assert window.total(110.0) == 3
    assert window.total(115.0) == 0


def test_a_long_silence_leaves_nothing() -> None:
    window = Window(10)
    window.add(100, 7)
    assert window.total(100_000) == 0
    window.add(100_000, 2)
    assert window.total(100_000) == 2


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5)), max_size=40))
def test_the_total_is_right_to_within_a_tenth_of_the_window(steps: list[tuple[float, int]]) -> None:
    window, now_s = Window(10), 50.0
    happened: list[tuple[float, int]] = []
    for wait_s, count in steps:
        now_s += wait_s
        window.add(now_s, count)
        happened.append((now_s, count))
        total = window.total(now_s)
        assert total >= sum(count for at_s, count in happened if at_s > now_s - 9)
        assert total <= sum(count for at_s, count in happened if at_s > now_s - 10)
