"""The samples of several instances, put together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weldr.control.fleet.merged import Merged
from weldr.control.fleet.samples import KEPT_SLOTS, RECENT_SLOTS, SLOT_S, BackendLoad, Counts, Sample
from weldr.model.latency import bucket_of, quantile_s


def sample(number: int, requests: int = 1, bucket: int = 40, **more: object) -> Sample:
    counts = {"shop": Counts(requests, 0, {bucket: requests})}
    return Sample(number, counts, recent=counts, **more)  # type: ignore[arg-type]


def requests_of(merged: Merged) -> dict[int, int]:
    return {number: slot["shop"].requests for number, slot in merged.slots.items() if "shop" in slot}


def test_slots_of_instances_that_count_differently_meet_by_when_they_arrive() -> None:
    merged = Merged()
    for ours, theirs in ((100, 7), (101, 8), (102, 9)):
        merged.tick(ours)
        merged.add("here", sample(ours), 0.0)
        merged.add("there", sample(theirs, 10), 0.0)
    assert requests_of(merged) == {100: 11, 101: 11, 102: 11}


def test_a_sample_that_comes_a_little_early_or_late_leaves_no_gap_and_no_peak() -> None:
    merged = Merged()
    merged.tick(10)
    merged.add("there", sample(1, 5), 0.0)
    merged.add("there", sample(2, 5), 0.0)
    merged.tick(11)
    merged.tick(12)
    merged.add("there", sample(3, 5), 0.0)
    assert requests_of(merged) == {10: 5, 11: 5, 12: 5}


def test_an_instance_that_began_anew_is_placed_anew() -> None:
    merged = Merged()
    merged.tick(50)
    merged.add("there", sample(500), 0.0)
    merged.tick(51)
    merged.add("there", sample(1), 0.0)
    assert requests_of(merged) == {50: 1, 51: 1}


def test_the_past_comes_behind_the_newest_and_is_told_by_another_epoch() -> None:
    merged = Merged()
    merged.tick(200)
    merged.add("there", sample(30), 0.0)
    epoch = merged.epoch
    merged.add_past("there", [sample(29, 2), sample(28, 3), sample(30, 99)])
    assert requests_of(merged) == {200: 1, 199: 2, 198: 3}
    assert merged.epoch > epoch


def test_only_so_many_slots_are_kept() -> None:
    merged = Merged()
    for number in range(1, 3 * KEPT_SLOTS):
        merged.tick(number)
        merged.add("here", sample(number), 0.0)
        merged.rates(number)
    assert len(merged.slots) == KEPT_SLOTS
    assert len(merged._rates) <= KEPT_SLOTS
    merged.add_past("here", [sample(-(10**6))])
    assert len(merged.slots) == KEPT_SLOTS


def test_what_comes_late_changes_what_was_told_of_its_slot() -> None:
    merged = Merged()
    merged.tick(5)
    merged.add("here", sample(5, 4), 0.0)
    merged.add("there", sample(90, 4), 0.0)
    merged.tick(6)
    assert merged.rates(5)["shop"].requests_per_s == 8 / SLOT_S
    merged.add_past("there", [sample(89, 1)])
    merged.add("late", sample(1, 1), 0.0)
    merged.add_past("late", [sample(0, 2)])
    assert merged.rates(5)["shop"].requests_per_s == 10 / SLOT_S


def test_rates_and_quantiles_are_of_all_requests_and_no_average_of_averages() -> None:
    merged = Merged()
    merged.tick(5)
    fast, slow = bucket_of(1000), bucket_of(1_000_000)
    merged.add("here", sample(5, 98, fast), 0.0)
    merged.add("there", sample(5, 2, slow), 0.0)
    rates = merged.rates(5)["shop"]
    assert rates.requests_per_s == 100 / SLOT_S
    assert rates.p50_s == round(quantile_s({fast: 98, slow: 2}, 0.5) or 0, 6)
    assert rates.p99_s == round(quantile_s({slow: 1}, 0.5) or 0, 6)
    now = merged.services_now()["shop"]
    assert now.requests_per_s == 100 / (SLOT_S * RECENT_SLOTS)
    assert now.p99_s == rates.p99_s


def test_what_is_in_flight_is_the_sum_of_all_that_still_tell() -> None:
    merged = Merged()
    merged.tick(5)
    loads = {"shop": {"b1": BackendLoad(10, 5, 2)}}
    merged.add("here", sample(5, backends=loads), 0.0)
    merged.add("there", sample(5, backends=loads), 0.0)
    assert merged.backends_now() == {"shop": {"b1": [2.0, 1.0, 4]}}
    merged.forget("there")
    assert merged.backends_now() == {"shop": {"b1": [1.0, 0.5, 2]}}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.integers(0, 200)), max_size=60))
def test_no_order_of_samples_loses_a_bound(steps: list[tuple[str, int, int]]) -> None:
    merged = Merged()
    number = 0
    for name, step, theirs in steps:
        number += step
        merged.tick(number)
        merged.add(name, sample(theirs), 0.0)
        assert all(number - KEPT_SLOTS < held <= number + 1 for held in merged.slots)
