"""Metrics as text: both formats are what their parsers understand, and whoever writes gives way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser

from weldr.control.metrics.endpoint import MetricsEndpoint
from weldr.control.metrics.exposition import LINES_AT_ONCE, SLICE_S, Part, written
from weldr.control.metrics.family import Family, labels
from weldr.model.latency import TICK_S, bucket_of

FORMATS = pytest.mark.parametrize("openmetrics", [True, False])


async def read(parts: list[Part], *, openmetrics: bool) -> list[Metric]:
    text, _ = await written([parts], openmetrics=openmetrics)
    read = openmetrics_parser if openmetrics else parser
    return list(read.text_string_to_metric_families(text.decode()))


@FORMATS
def test_any_name_is_read_as_it_is(openmetrics: bool) -> None:
    @given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
    def holds(name: str, held: bool) -> None:
        family = Family("weldr_held", "gauge", 'Some "text" \\ here.')
        family.add(labels(vip=name, other='"\n\\'), held)
        family.add("", 0.1 + 0.2)
        (found,) = asyncio.run(read([family], openmetrics=openmetrics))
        assert found.documentation == 'Some "text" \\ here.'
        assert [(each.labels, each.value) for each in found.samples] == [
            ({"vip": name, "other": '"\n\\'}, float(held)),
            ({}, 0.1 + 0.2),
        ]

    holds()


@FORMATS
async def test_many_samples_are_one_family_beside_others(openmetrics: bool) -> None:
    many = Family("weldr_requests", "counter", "Some.")
    for number in range(2 * LINES_AT_ONCE + 1):
        many.count(labels(service=str(number)), number)
    one = Metric("weldr_ready", "Some.", "gauge")
    one.add_sample("weldr_ready", {}, 1)
    empty = Family("weldr_errors", "counter", "None.")
    found = await read([None, many, None, empty, one], openmetrics=openmetrics)
    assert [sample.value for sample in found[0].samples] == list(range(2 * LINES_AT_ONCE + 1))
    assert found[-1].samples[0].value == 1


@FORMATS
@pytest.mark.parametrize("names", ["", labels(service="shop")])
async def test_a_histogram_counts_each_latency_below_the_right_bounds(openmetrics: bool, names: str) -> None:
    ticks = [1, (1 << 12) - 1, 1 << 12, 1 << 40]
    family = Family("took_seconds", "histogram", "Some.", "seconds")
    family.histogram(names, {bucket_of(each): 1 for each in ticks})
    (found,) = await read([family], openmetrics=openmetrics)
    bounds = [sample for sample in found.samples if sample.name == "took_seconds_bucket"]
    assert len(bounds) > 10
    for sample in bounds:
        bound_s = float(sample.labels["le"])
        assert sample.value == sum(each * TICK_S < bound_s for each in ticks)
    (sum_s,) = [sample.value for sample in found.samples if sample.name == "took_seconds_sum"]
    assert sum_s == pytest.approx(sum(ticks) * TICK_S, rel=1 / 8)


async def test_others_have_their_turn_after_each_slice_of_time() -> None:
    family = Family("weldr_up", "gauge", "Some.")
    turns = count()

    def source() -> Iterator[Part]:
        for _ in range(100):
            yield None
        yield family

    async def others() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    # Each look at the clock is a third of a slice later: so every fourth is beyond it.
    ticks = (SLICE_S / 3 * number for number in count())
    await written([source()], openmetrics=True, clock=lambda: next(ticks))
    beside.cancel()
    assert next(turns) >= 100 / 4


async def test_who_comes_while_metrics_are_written_gets_later_ones_shared_with_all_who_wait() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    values = count()

    def sources() -> Iterator[Iterator[Part]]:
        yield source(next(values))

    def source(value: int) -> Iterator[Part]:
        begun.set()
        while not go_on.is_set():
            yield None
        family = Family("weldr_up", "gauge", "Some.")
        family.add("", value)
        yield family

    def ask(openmetrics: bool) -> asyncio.Task[tuple[bytes, str]]:
        return asyncio.create_task(endpoint.text(openmetrics=openmetrics))

    endpoint = MetricsEndpoint(sources)
    first = ask(True)
    await begun.wait()
    leaving, *waiting, other = [ask(each) for each in (True, True, True, False)]
    await asyncio.sleep(0)
    leaving.cancel()
    go_on.set()
    assert b"up 0\n" in (await first)[0]
    assert [text for text, _ in await asyncio.gather(*waiting)] == [(await waiting[0])[0]] * 2
    assert b"up 1\n" in (await waiting[0])[0]
    assert (await other)[1].startswith("text/plain")
    assert next(values) == 3
