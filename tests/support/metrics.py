"""What `/metrics` says, read by the parsers of Prometheus' own client library."""

from __future__ import annotations

from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.samples import Sample

from tests.support.admin import Api

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Scrape:
    """One answer."""

    def __init__(self, api: Api, accept: str = OPENMETRICS) -> None:
        answer = api.call("GET", "/metrics", headers={"Accept": accept})
        assert answer.status == 200, answer.body
        self.media_type = answer.headers["Content-Type"]
        self.text = answer.body.decode()
        is_openmetrics = self.media_type.startswith("application/openmetrics-text")
        read = openmetrics_parser if is_openmetrics else parser
        self.families: list[Metric] = list(read.text_string_to_metric_families(self.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return {sample.name for sample in self.samples}

    @property
    def series(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        """All series."""
        return {(sample.name, frozenset(sample.labels.items())) for sample in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that have these labels; 0 if there is none."""
        return sum(sample.value for sample in self.found(name, **labels))

    def found(self, name: str, **labels: str) -> list[Sample]:
        """The samples of this name that have these labels."""
        return [
            sample for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
