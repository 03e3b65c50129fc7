"""What ships to try and watch weldr with names only what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.admin import Api
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, http_get, wait_until
from tests.support.metrics import Scrape
from tests.support.servers import NamedServer

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "compose"
_METRIC = re.compile(r"\b(?:weldr|process)_[a-z0-9_]+\b")
_LABEL = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
_LATE = {
    "weldr_vip_state",
    "weldr_errors_total",
    "weldr_connect_failures_total",
    "weldr_backend_requests_total",
}
"""What there is nothing to say of at first."""
_OF_PROMETHEUS = {"instance", "job"}


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the alert rules and of the dashboard, and where it stands."""
    rules = yaml.safe_load((COMPOSE / "prometheus" / "alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((COMPOSE / "grafana" / "dashboards" / "weldr.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["name"], variable["query"]


@pytest.fixture(scope="module")
def scrape(etcd_server: EtcdServer) -> Iterator[Scrape]:
    prefix = "/compose-metrics/"
    with NamedServer("b1") as server, Instance(etcd=etcd_server.endpoint, prefix=prefix) as weldr:
        etcd_server.etcdctl("put", f"{prefix}backends/default/b1", server.address)
        etcd_server.etcdctl("put", f"{prefix}vips/one", '{"address": "192.0.2.77", "announce": "none"}')
        etcd_server.etcdctl("put", f"{prefix}backends/gone/b1", "127.0.0.1:1")
        etcd_server.etcdctl("put", f"{prefix}routes/gone", '{"host": "gone.example", "service": "gone"}')
        weldr.wait_ready()

        def complete() -> Scrape | None:
            weldr.get()
            http_get(f"http://{weldr.address}/", host="gone.example")
            found = Scrape(Api(weldr.admin))
            missing.append(_LATE - found.names)
            return None if missing[-1] else found

        missing: list[set[str]] = []
        try:
            found = wait_until(complete, "there is something of everything")
        except AssertionError:
            raise AssertionError(f"there is nothing of {missing[-1]}") from None
        yield found


def test_every_metric_of_the_alerts_and_the_dashboard_exists(scrape: Scrape) -> None:
    # A metric without samples now, as of circuits that are all closed, is a family nevertheless.
    known = scrape.names | {family.name for family in scrape.families}
    known |= {f"{family.name}_total" for family in scrape.families if family.type == "counter"}
    used = {(where, name) for where, expression in expressions() for name in _METRIC.findall(expression)}
    assert len({name for _, name in used}) > 30
    assert {(where, name) for where, name in used if name not in known} == set()


def test_every_label_that_they_choose_by_is_one_of_the_metric(scrape: Scrape) -> None:
    labels: dict[str, set[str]] = {}
    for sample in scrape.samples:
        labels.setdefault(sample.name, set()).update(sample.labels)
    for where, expression in expressions():
        for name, matcher in re.findall(r"\b((?:weldr|process)_[a-z0-9_]+)\{([^}]*)\}", expression):
            if name in labels:
                assert set(_LABEL.findall(matcher)) <= labels[name] | _OF_PROMETHEUS, (where, name)


def test_every_alert_says_what_to_do() -> None:
    rules = yaml.safe_load((COMPOSE / "prometheus" / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["what_to_do"]


def test_the_services_of_compose_fit_together() -> None:
    document: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    services, secrets = document["services"], document["secrets"]
    kinds = [sum(name.startswith(kind) for name in services) for kind in ("etcd-", "weldr-", "backend-")]
    assert kinds == [3, 3, 2]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service.get("secrets", ())) <= set(secrets), name
        for volume in service.get("volumes", ()):
            assert (COMPOSE / volume.split(":")[0]).exists(), volume
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} is open to everybody"
    for secret in secrets.values():
        assert (COMPOSE / secret["file"]).is_file()
    token = (COMPOSE / "prometheus-token").read_text()
    assert f"read {token} " in (COMPOSE / "tokens").read_text()
    prometheus = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yaml").read_text())
    (job,) = prometheus["scrape_configs"]
    assert job["job_name"] == "weldr"
    targets = job["static_configs"][0]["targets"]
    assert [target.partition(":")[0] for target in targets] == [name for name in services if "weldr-" in name]


def test_the_command_of_compose_starts_an_instance_that_prometheus_can_ask(
    etcd_server: EtcdServer, tmp_path: Path
) -> None:
    """The options as they stand, but for ports and the paths of a container."""
    command = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["weldr-1"]["command"]
    assert command[0] == "run"
    changed = {":8080": "127.0.0.1:0", ":8687": "127.0.0.1:0", "/run/secrets/tokens": str(COMPOSE / "tokens")}
    arguments = [changed.get(word, word) for word in command[1:]]
    with Instance(*arguments, etcd=etcd_server.endpoint, prefix="/compose-run/") as weldr:
        weldr.wait_ready()
        token = (COMPOSE / "prometheus-token").read_text()
        api = Api(weldr.admin, {"Authorization": f"Bearer {token}", "Host": "weldr-1:8687"})
        assert Scrape(api).value("weldr_ready") == 1
