"""Requests as parts of traces, exported to a real collector; and what trusted clients are told of their way."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.admin import Api
from tests.support.collector import Collector, attributes
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, WeldrProcess, wait_until
from tests.support.metrics import Scrape

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
SERVER, CLIENT = 2, 3
"""The kinds of spans, as OTLP numbers them."""
ERROR = 2


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(503 if self.path.startswith("/fail") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """An instance that exports to a collector, and a backend that says what it got."""

    weldr: Instance
    collector: Collector
    etcd: EtcdServer
    prefix: str

    def put(self, key: str, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        self.etcd.etcdctl("put", self.prefix + key, text)

    def settle(self, settings: object) -> None:
        """Bring settings into force."""
        self.put("settings", settings)
        fields = self.etcd.etcdctl("get", self.prefix + "settings", "-w", "fields")
        revision = int(re.findall(r'"ModRevision" : (\d+)', fields)[0])
        wait_until(
            lambda: json.loads(self.weldr.admin_get("/api/v1/stats")[1])["applied_revision"] >= revision,
            "the settings are in force",
        )

    def get(self, path: str = "/", **fields: str) -> tuple[http.client.HTTPResponse, dict[str, str]]:
        """The response, and the fields that the backend got."""
        connection = http.client.HTTPConnection(self.weldr.address, timeout=30)
        connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in fields.items()}
        )
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, json.loads(body) if body.startswith(b"{") else {}

    def spans(self, trace_id: str, count: int) -> list[Any]:
        """So many spans of a trace, as soon as they have come."""
        found: list[Any] = wait_until(
            lambda: len(got := self.collector.of_trace(trace_id)) >= count and got, "the spans have come"
        )
        return found


@pytest.fixture(scope="module")
def module_site(etcd_server: EtcdServer) -> Iterator[Site]:
    prefix = "/tracing/"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    options = ("--debug-headers", "--otlp")
    with Collector() as collector:
        etcd_server.etcdctl("put", f"{prefix}backends/default/b1", address)
        with Instance(
            *options, collector.url, "--instance", "traced", etcd=etcd_server.endpoint, prefix=prefix
        ) as weldr:
            weldr.wait_ready()
            yield Site(weldr, collector, etcd_server, prefix)
    server.shutdown()
    server.server_close()


@pytest.fixture
def site(module_site: Site) -> Site:
    module_site.settle({"tracing": {"start": True}})
    return module_site


def test_a_trace_is_begun_where_there_is_none(site: Site) -> None:
    first, second = (site.get()[1]["traceparent"] for _ in range(2))
    for value in (first, second):
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", value)
    assert first.split("-")[1] != second.split("-")[1]


def test_a_trace_that_is_not_recorded_is_passed_on_as_it_came(site: Site) -> None:
    _, got = site.get(traceparent=UNSAMPLED, tracestate="a=1,b=2")
    assert (got["traceparent"], got["tracestate"]) == (UNSAMPLED, "a=1,b=2")


def test_what_is_malformed_is_replaced_and_its_state_dropped(site: Site) -> None:
    _, got = site.get(traceparent=f"00-{'0' * 32}-{SPAN}-01", tracestate="a=1")
    assert got["traceparent"].split("-")[1] not in (TRACE, "0" * 32)
    assert "tracestate" not in got


def test_without_tracing_nothing_is_touched(site: Site) -> None:
    site.settle({"tracing": {"follow_callers": False}})
    assert "traceparent" not in site.get()[1]
    assert site.get(traceparent="nonsense")[1]["traceparent"] == "nonsense"


def test_a_recorded_request_and_its_try_are_exported(site: Site) -> None:
    trace_id = "1" * 32
    site.put("routes/shop", {"host": "shop.example", "service": "default"})
    wait_until(
        lambda: site.get(Host="shop.example")[0].headers.get("Weldr-Route") == "shop", "the route is used"
    )
    response, got = site.get(
        "/cart?token=s3cret", traceparent=f"00-{trace_id}-{SPAN}-01", tracestate="a=1", Host="shop.example"
    )
    assert response.status == 200
    request, attempt = sorted(site.spans(trace_id, 2), key=lambda span: span.kind)
    assert (request.kind, attempt.kind) == (SERVER, CLIENT)
    assert request.parent_span_id.hex() == SPAN
    assert attempt.parent_span_id == request.span_id
    assert got["traceparent"] == f"00-{trace_id}-{attempt.span_id.hex()}-01"
    assert got["tracestate"] == "a=1"
    assert request.start_time_unix_nano <= attempt.start_time_unix_nano
    assert attempt.start_time_unix_nano <= attempt.end_time_unix_nano <= request.end_time_unix_nano
    told = attributes(request)
    assert told["url.path"] == "/cart"
    assert told["http.response.status_code"] == 200
    assert told["weldr.route"] == "shop"
    assert attributes(attempt)["weldr.backend"] == "b1"
    assert "s3cret" not in str(request) + str(attempt)
    assert site.collector.resources[0]["service.instance.id"] == "traced"


def test_each_try_of_a_failing_request_has_a_span(site: Site) -> None:
    trace_id = "2" * 32
    site.put("backends/flaky/gone", "127.0.0.1:1")
    site.put("routes/flaky", {"host": "flaky.example", "service": "flaky"})
    wait_until(lambda: site.get(Host="flaky.example")[0].status == 502, "the route is used")
    site.get(traceparent=f"00-{trace_id}-{SPAN}-01", Host="flaky.example")
    # It was never sent, since no connection could be made.
    (request,) = site.spans(trace_id, 1)
    assert request.status.code == ERROR
    assert attributes(request)["error.type"] == "connection_refused"
    failing = "3" * 32
    site.get("/fail", traceparent=f"00-{failing}-{SPAN}-01")
    request, attempt = sorted(site.spans(failing, 2), key=lambda span: span.kind)
    assert attributes(attempt)["http.response.status_code"] == 503
    assert (request.status.code, attempt.status.code) == (ERROR, ERROR)


def test_a_share_of_the_traces_begun_here_is_recorded(site: Site) -> None:
    site.settle({"tracing": {"start": True, "sample": 1.0, "follow_callers": False}})
    _, got = site.get()
    trace_id, flags = got["traceparent"].split("-")[1::2]
    assert flags == "01"
    assert len(site.spans(trace_id, 2)) == 2
    site.get(traceparent=SAMPLED.replace(TRACE, "4" * 32))
    _, last = site.get()
    site.spans(last["traceparent"].split("-")[1], 2)
    assert site.collector.of_trace("4" * 32) == []


def test_no_more_are_exported_than_may_be_and_a_collector_that_fails_harms_nobody(site: Site) -> None:
    site.settle({"tracing": {"spans_per_second": 2}})

    def lost() -> float:
        return Scrape(Api(site.weldr.admin)).value("weldr_worker_spans_lost_total")

    before = lost()
    site.collector.status = 400
    try:
        for _ in range(20):
            assert site.get(traceparent=SAMPLED)[0].status == 200
        wait_until(lambda: lost() - before >= 20, "spans are lost")
    finally:
        site.collector.status = 200
    site.weldr.wait_logged("spans cannot be exported")
    site.settle({})
    trace_id = "5" * 32
    site.get(traceparent=f"00-{trace_id}-{SPAN}-01")
    assert len(site.spans(trace_id, 2)) == 2


def test_trusted_clients_are_told_the_way_of_their_request(site: Site) -> None:
    response, _ = site.get()
    assert response.headers["Weldr-Service"] == "default"
    assert response.headers["Weldr-Backend"].startswith("b1 127.0.0.1:")
    assert response.headers["Weldr-Tries"] == "1"
    assert int(response.headers["Weldr-Revision"]) > 0
    site.settle({"trusted_proxies": ["127.0.0.0/8"]})
    assert "Weldr-Service" in site.get(X_Forwarded_For="127.0.0.9")[0].headers
    response, _ = site.get(X_Forwarded_For="203.0.113.9")
    assert not [name for name in response.headers if name.startswith("Weldr")]


def test_a_response_of_weldrs_own_says_why_and_by_which_id_it_is_found(site: Site) -> None:
    site.put("routes/nobody", {"host": "nobody.example", "service": "nobody"})
    wait_until(lambda: site.get(Host="nobody.example")[0].status == 503, "the route is used")
    response, _ = site.get(Host="nobody.example", X_Request_Id='a"b')
    assert response.headers["Proxy-Status"] == (
        'weldr; error=destination_unavailable; details="the service nobody has no backend"; request-id="a\\"b"'
    )
    assert response.headers["Weldr-Service"] == "nobody"
    made = re.search('request-id="([0-9a-f]{24})"', site.get(Host="nobody.example")[0].headers["Proxy-Status"])
    assert made is not None


def test_a_wrong_collector_or_network_is_told_in_one_line() -> None:
    for option, value, words in (
        ("--otlp", "nonsense", "is no URL such as"),
        ("--debug-headers", "10.0.0.0/33", "is no network"),
    ):
        with WeldrProcess("run", option, value) as weldr:
            assert weldr.wait() == 2
            assert words in weldr.lines[-1]
