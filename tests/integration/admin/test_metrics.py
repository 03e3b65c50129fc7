"""`/metrics`: what Prometheus reads of an instance under traffic."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support.admin import Api
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.metrics import OPENMETRICS, Scrape
from tests.support.servers import NamedServer
from tests.support.site import Site
from weldr.control.metrics.incidents import NAMES
from weldr.model.incidents import COUNTS

DIFFERENT_REQUESTS = 100_000
BATCH = 2_000


def scrape_when(api: Api, condition: object, what: str) -> Scrape:
    """The first scrape of which `condition` holds: what workers count comes every second."""

    def found() -> Scrape | None:
        scrape = Scrape(api)
        return scrape if condition(scrape) else None  # type: ignore[operator]

    return wait_until(found, what)  # type: ignore[no-any-return]


@pytest.fixture
def shop(site: Site) -> NamedServer:
    with NamedServer("b1") as server:
        site.put("backends/shop/b1", server.address)
        site.put("routes/cart", '{"host": "shop.example", "path": "/cart", "service": "shop"}')
        wait_until(lambda: site.weldr.get("/cart", host="shop.example")[0] == 200, "the route is served")
        yield server


def test_requests_are_told_by_service_route_backend_method_and_status(site: Site, shop: NamedServer) -> None:
    before = Scrape(site.api)
    for _ in range(3):
        assert site.weldr.get("/cart", host="shop.example")[0] == 200
    assert site.weldr.get("/nothing", host="shop.example")[0] == 503

    def counts(scrape: Scrape, name: str, **labels: str) -> float:
        return scrape.value(name, **labels) - before.value(name, **labels)

    by_route = {"service": "shop", "route": "cart", "method": "GET", "status": "2xx"}
    by_backend = {"service": "shop", "backend": "b1", "method": "GET", "status": "2xx"}
    after = scrape_when(
        site.api,
        lambda scrape: (
            counts(scrape, "weldr_requests_total", **by_route) >= 3
            and counts(scrape, "weldr_errors_total", service="default", error="destination_unavailable") >= 1
        ),
        "the requests are counted",
    )
    assert counts(after, "weldr_backend_requests_total", **by_backend) >= 3
    assert counts(after, "weldr_requests_total", service="default", route="", status="5xx") >= 1
    assert counts(after, "weldr_request_duration_seconds_count", service="shop") >= 3
    assert counts(after, "weldr_backend_response_duration_seconds_count", service="shop") >= 3
    assert counts(after, "weldr_response_body_bytes_total", service="shop") > 0
    assert after.value("weldr_backend_up", service="shop", backend="b1") == 1


def test_a_backend_that_has_left_leaves_no_series_and_takes_no_count_along(
    site: Site, shop: NamedServer
) -> None:
    key = "backends/shop/passing"
    site.put(key, shop.address)
    served = scrape_when(
        site.api,
        lambda scrape: (
            site.weldr.get("/cart", host="shop.example")
            and scrape.value("weldr_backend_requests_total", backend="passing")
        ),
        "the new backend gets requests",
    )
    site.etcd.etcdctl("del", site.prefix + key)
    after = scrape_when(site.api, lambda scrape: "passing" not in scrape.text, "nothing is left of the backend")
    total = {"service": "shop", "route": "cart"}
    assert after.value("weldr_requests_total", **total) >= served.value("weldr_requests_total", **total)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain, Application/OpenMetrics-Text;version=x", "application/openmetrics-text; version=1.0.0"),
        (";;,=,version=,", "text/plain; version=0.0.4"),
    ],
)
def test_both_formats_are_read_by_their_parsers(site: Site, accept: str, media_type: str) -> None:
    scrape = Scrape(site.api, accept)
    assert scrape.media_type.startswith(media_type)
    assert len(scrape.families) == len({family.name for family in scrape.families})
    assert len(scrape.series) == len(scrape.samples)


def test_the_state_of_the_instance_is_told(site: Site) -> None:
    scrape = scrape_when(site.api, lambda scrape: scrape.found("weldr_worker_requests_in_flight"), "a beat")
    assert scrape.value("weldr_ready") == 1
    assert scrape.value("weldr_watch_connected") == 1
    assert scrape.value("weldr_etcd_connected") == 1
    assert 0 < scrape.value("weldr_lease_remaining_seconds") <= 10
    assert scrape.value("weldr_etcd_requests_total", operation="Range", outcome="ok") > 0
    assert scrape.value("weldr_etcd_request_duration_seconds_count", operation="Put") > 0
    assert scrape.value("weldr_worker_serving", worker="0") == 1
    assert scrape.value("weldr_worker_starts_total", worker="0") == 1
    assert scrape.value("weldr_worker_applied_revision") == scrape.value("weldr_catalog_applied_revision")
    for name in ("process_resident_memory_bytes", "weldr_worker_resident_memory_bytes"):
        assert scrape.value(name) > 10_000_000
    for process in ("process_", "weldr_worker_"):
        for name in ("cpu_seconds_total", "virtual_memory_bytes", "start_time_seconds"):
            assert scrape.value(process + name) > 0
        assert 0 < scrape.value(process + "open_fds") < scrape.value(process + "max_fds")
    for name in ("weldr_manager_event_loop_lag_seconds", "weldr_worker_event_loop_lag_seconds"):
        assert scrape.found(name)


def test_a_worker_counts_its_own_descriptors_whoever_it_runs_as(site: Site) -> None:
    before = scrape_when(site.api, lambda scrape: scrape.found("weldr_worker_open_fds"), "a beat")
    with contextlib.ExitStack() as clients:
        for _ in range(60):
            clients.enter_context(socket.create_connection(("127.0.0.1", site.weldr.port), 30))
        # Some that were open before may be gone.
        enough = before.value("weldr_worker_open_fds") + 30
        scrape_when(
            site.api, lambda scrape: scrape.value("weldr_worker_open_fds") >= enough, "they are counted"
        )


def test_everything_that_befalls_requests_has_its_metric(site: Site, shop: NamedServer) -> None:
    assert set(NAMES) == set(COUNTS)
    site.put("backends/refusing/r1", "127.0.0.1:1")
    site.put("routes/refusing", '{"host": "refusing.example", "service": "refusing"}')
    wait_until(lambda: site.weldr.get(host="refusing.example")[0] == 502, "nobody listens there")
    scrape = scrape_when(
        site.api,
        lambda scrape: scrape.value("weldr_connect_failures_total", service="refusing"),
        "the failure is counted",
    )
    assert {f"weldr_{name}_total" for name, _ in NAMES.values()} <= scrape.names


def test_a_key_that_cannot_be_understood_is_a_problem_until_it_can(site: Site) -> None:
    site.put("services/broken", "{")
    scrape_when(
        site.api, lambda scrape: scrape.value("weldr_problems", source="keys") == 1, "the problem shows"
    )
    site.etcd.etcdctl("del", site.prefix + "services/broken")
    scrape_when(site.api, lambda scrape: scrape.value("weldr_problems", source="keys") == 0, "it goes")


def test_a_client_cannot_make_series(etcd_server: EtcdServer, site: Site) -> None:
    site.put("settings", '{"access_log": {"format": "off"}}')
    first = _requests(0, 1)
    _exchange(site.weldr.address, first, 1)
    before = scrape_when(
        site.api,
        lambda scrape: scrape.value("weldr_requests_total", method="OTHER", status="5xx") >= 1,
        "counted",
    )
    for start in range(0, DIFFERENT_REQUESTS, BATCH):
        _exchange(site.weldr.address, _requests(start, BATCH), BATCH)
    after = scrape_when(
        site.api,
        lambda scrape: scrape.value("weldr_requests_total", method="OTHER") > DIFFERENT_REQUESTS,
        "all are counted",
    )
    # Those of etcd's operations and of other states may come meanwhile: they are bounded by what weldr does.
    new = {name for name, labels in after.series - before.series}
    assert not {name for name in new if "request" in name and "etcd" not in name}
    assert len(after.series) < len(before.series) + 100
    site.etcd.etcdctl("del", site.prefix + "settings")


def _requests(start: int, count: int) -> bytes:
    return b"".join(
        b"M%d /p%d?q=%d HTTP/1.1\r\nHost: h%d.example\r\n\r\n" % (number, number, number, number)
        for number in range(start, start + count)
    )


def _exchange(address: str, requests: bytes, count: int) -> None:
    """All of them on one connection, one behind the other; each is answered."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as client:
        client.sendall(requests)
        rest, answers = b"", 0
        while answers < count:
            data = client.recv(1 << 16)
            assert data, f"only {answers} of {count} were answered"
            rest += data
            answers += rest.count(b"HTTP/1.1 503 ")
            rest = rest[-12:]


def test_metrics_are_guarded_like_the_rest_of_the_admin_port(etcd_server: EtcdServer, tmp_path: object) -> None:
    tokens = tmp_path / "tokens"  # type: ignore[operator]
    tokens.write_text("read prometheus-token-0123 prometheus\n")
    with Instance(
        "--admin-token-file", str(tokens), etcd=etcd_server.endpoint, prefix="/metrics-guard/"
    ) as weldr:
        weldr.wait_running()
        assert Api(weldr.admin).get("/metrics").status == 401
        assert Scrape(Api(weldr.admin, {"Authorization": "Bearer prometheus-token-0123"})).value(
            "weldr_build_info"
        )
        foreign = {"Authorization": "Bearer prometheus-token-0123", "Origin": "http://evil.example"}
        assert Api(weldr.admin, foreign).get("/metrics").status == 403
