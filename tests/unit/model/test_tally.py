"""Counts of requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weldr.model.latency import MOST_BUCKETS
from weldr.model.tally import APART, BY_ROUTE, METHODS, OTHER, Counted, Tally, kind_of

kinds = st.tuples(st.integers(0, len(METHODS)), st.integers(0, 599), st.integers(0, MOST_BUCKETS - 1))


@given(kinds)
def test_a_kind_tells_what_it_was_made_of(kind: tuple[int, int, int]) -> None:
    method, status, bucket = kind
    tally = Tally("s", "b", {kind_of(*kind): 3})
    name = METHODS[method] if method < len(METHODS) else OTHER
    assert list(tally.counted()) == [Counted(name, status // 100, bucket, 3)]


def test_tallies_are_merged_by_adding() -> None:
    tally = Tally("s", "b", {1: 1, 2: 2}, 10, 20, {"dns_error": 1})
    tally.add(Tally("s", "b", {2: 3, 4: 4}, 1, 2, {"dns_error": 2}))
    assert tally == Tally("s", "b", {1: 1, 2: 5, 4: 4}, 11, 22, {"dns_error": 3}, {2: 3, 4: 4})


def test_routes_are_left_out_of_the_sum_for_a_backend() -> None:
    tally = Tally("s", "b")
    tally.add(Tally("s", "b", {7: 1, 7 + BY_ROUTE: 2, 7 + 5 * BY_ROUTE + APART: 3}, backend_latencies={1: 3}))
    assert tally.counts == {7: 6}
    assert tally.backend_latencies == {7: 3, 1: 3}


def test_the_latency_of_no_backend_is_none_of_a_backend() -> None:
    assert list(Tally("s", "", {7: 1}).latencies_of_backend()) == []
