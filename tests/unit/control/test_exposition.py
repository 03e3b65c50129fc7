"""Metrics as text: families in many parts are one family, and what is exact stays exact."""

from __future__ import annotations

from prometheus_client.openmetrics import parser

from weldr.control.metrics.exposition import SAMPLES_IN_PART, Family, written
from weldr.model.latency import TICK_S, bucket_of

OPENMETRICS = "application/openmetrics-text"


async def test_a_family_in_many_parts_is_written_as_one() -> None:
    family = Family("weldr_requests", "counter", "Some.")
    parts = []
    for number in range(5 * SAMPLES_IN_PART):
        family.count({"service": f'"{number}"\n# HELP'}, number)
        parts += family.part()
    parts += family.part(last=True)
    assert len(parts) == 6
    text, _ = await written([parts], OPENMETRICS)
    (found,) = parser.text_string_to_metric_families(text.decode())
    assert [sample.value for sample in found.samples] == list(range(5 * SAMPLES_IN_PART))
    assert found.samples[7].labels == {"service": '"7"\n# HELP'}


async def test_a_histogram_counts_each_latency_below_the_right_bounds() -> None:
    ticks = [1, (1 << 12) - 1, 1 << 12, 1 << 40]
    family = Family("took_seconds", "histogram", "Some.", "seconds")
    family.histogram({}, {bucket_of(each): 1 for each in ticks})
    text, _ = await written([family.part(last=True)], OPENMETRICS)
    (found,) = parser.text_string_to_metric_families(text.decode())
    for sample in found.samples:
        if sample.name == "took_seconds_bucket":
            bound_s = float(sample.labels["le"])
            assert sample.value == sum(each * TICK_S < bound_s for each in ticks)
