"""The pause before a retry."""

from __future__ import annotations

import pytest

from weldr.proxy.backoff import pause_s


@pytest.mark.parametrize(
    ("number", "chance", "expected_s"),
    [(1, 0.0, 0.0), (1, 0.5, 0.05), (2, 0.5, 0.1), (3, 0.5, 0.2), (4, 0.5, 0.25), (60, 0.5, 0.25)],
)
def test_it_is_a_random_part_of_a_bound_that_doubles_up_to_the_longest(
    number: int, chance: float, expected_s: float
) -> None:
    assert pause_s(number, 0.1, 0.5, chance) == pytest.approx(expected_s)
