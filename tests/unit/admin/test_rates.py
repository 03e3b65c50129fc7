"""The bounds on how often a client may ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weldr.control.admin.rates import Rates


def test_a_burst_is_taken_and_what_is_beyond_it_has_to_wait() -> None:
    rates = Rates(per_s=2, burst=3)
    assert [rates.wait_s("a", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert rates.wait_s("b", 0.0) == 0
    assert rates.wait_s("a", 0.5) == 0
    assert rates.wait_s("a", 0.5) > 0


def test_no_more_clients_are_remembered_than_is_bounded() -> None:
    rates = Rates(per_s=1, burst=1)
    for number in range(5000):
        assert rates.wait_s(str(number), 0.0) == 0
    assert rates.wait_s("4999", 0.0) > 0


@given(st.lists(st.floats(0, 1), max_size=200))
def test_over_any_time_no_more_pass_than_the_burst_and_the_rate(pauses: list[float]) -> None:
    rates, now, passed = Rates(per_s=5, burst=10), 0.0, 0
    for pause in pauses:
        now += pause
        passed += rates.wait_s("a", now) == 0
    assert passed <= 10 + 5 * now + 1e-6
