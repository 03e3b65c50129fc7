"""Each request is counted once, and written to the access log as the settings say."""

from __future__ import annotations

import fcntl
import os
import threading
from collections import Counter
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Literal

import msgspec
import pytest

from tests.support.instance import wait_until
from weldr.model.access_log import AccessLogSettings
from weldr.model.latency import bucket_of
from weldr.model.tally import BY_ROUTE, Counted
from weldr.model.values import Limits, Route
from weldr.proxy.access_log import AccessLog
from weldr.proxy.accounts import Accounts
from weldr.proxy.line_writer import WRITE_BYTES, LineWriter
from weldr.proxy.request_fields import RequestRefusedError, request_id_of
from weldr.proxy.request_head import RequestHead, read_head
from weldr.proxy.routing.compiled import CompiledRoute
from weldr.proxy.routing.rules import Verdict

WAY = ("shop", "b1")


@dataclass
class Request:
    """One that has ended."""

    head: RequestHead
    started_ns: int
    request_bytes: int = 3
    response_bytes: int = 5
    verdict: Verdict | None = None
    client_address: str = "192.0.2.1"
    route: CompiledRoute | None = None

    @property
    def request_id(self) -> bytes:
        return request_id_of(self.head.fields.lines)


def head_of(target: bytes = b"/a?token=s3cret&b=1", *lines: bytes, method: bytes = b"GET") -> RequestHead:
    data = b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: h.example", *lines, b"", b""])
    found = read_head(data, 0, Limits(), b"")
    assert found is not None
    return found[0]


class Log:
    """Accounts whose log ends in a pipe."""

    def __init__(self, settings: AccessLogSettings) -> None:
        self._reader, self._descriptor = os.pipe()
        self.log = AccessLog(LineWriter(self._descriptor))
        self.log.adopt(settings)
        self.accounts = Accounts(self.log)

    def record(self, head: RequestHead, status: int, elapsed_s: float = 0.0, **facts: object) -> None:
        started_ns = perf_counter_ns() - int(elapsed_s * 1e9)
        self.accounts.record(WAY, Request(head, started_ns, **facts), status)  # type: ignore[arg-type]

    def lines(self, count: int) -> list[bytes]:
        """So many lines, and there are no more."""
        self.log.writer.write(b"end\n")
        self.log.writer.flush()
        with open(self._reader, "rb", closefd=False) as stream:
            found = [stream.readline() for _ in range(count + 1)]
        assert found.pop() == b"end\n"
        return found


@pytest.fixture
def all_requests() -> Log:
    return Log(AccessLogSettings(sample=1.0))


def test_a_request_is_counted_by_method_status_and_latency() -> None:
    log = Log(AccessLogSettings(format="off"))
    log.record(head_of(), 200, 1.0)
    log.record(head_of(method=b"BREW"), 404, 1.0)
    (tally,) = log.accounts.take().tallies
    assert (tally.service, tally.backend) == WAY
    assert (tally.request_bytes, tally.response_bytes) == (6, 10)
    assert {(each.method, each.status_class, each.requests) for each in tally.counted()} == {
        ("GET", 2, 1),
        ("OTHER", 4, 1),
    }
    second = bucket_of(int(1e9) >> 10)
    assert all(each.bucket in (second, second + 1) for each in tally.counted())
    assert log.accounts.take().tallies == []
    assert log.lines(0) == []


def test_what_is_refused_is_counted_apart() -> None:
    log = Log(AccessLogSettings())
    for status in (400, 414):
        refusal = RequestRefusedError(status, "it is no \x1b request")
        log.accounts.refused("192.0.2.1", refusal, "http_request_error", "r1")
    line = msgspec.json.decode(log.lines(2)[0])
    assert line.pop("time")
    assert line == {
        "client": "192.0.2.1",
        "status": 400,
        "request_id": "r1",
        "error": "http_request_error",
        "details": "it is no \x1b request",
    }
    (tally,) = log.accounts.take().tallies
    assert (tally.service, tally.backend) == ("", "")
    assert list(tally.counted()) == [Counted("OTHER", 4, 0, 2)]
    assert tally.errors == {"http_request_error": 2}


def test_routes_are_numbered_as_long_as_what_they_took_is_not_taken_away() -> None:
    log = Log(AccessLogSettings(format="off"))
    first, second = (CompiledRoute(name, Route(service="shop")) for name in ("a", "b"))
    for route in (second, None, first, second):
        log.record(head_of(), 200, route=route)
    taken = log.accounts.take()
    assert taken.routes == ["b", "a"]
    by_route = Counter[int]()
    for kind, count in taken.tallies[0].counts.items():
        by_route[kind // BY_ROUTE] += count
    assert by_route == {0: 1, 1: 2, 2: 1}
    log.record(head_of(), 200, route=first)
    assert log.accounts.take().routes == ["a"]


def test_the_backends_time_is_kept_apart_where_it_is_not_the_whole() -> None:
    log = Log(AccessLogSettings(format="off"))
    log.accounts.record(WAY, Request(head_of(), perf_counter_ns()), 200, 1_000_000_000)
    log.accounts.record(WAY, Request(head_of(), perf_counter_ns()), 502, 0)
    (tally,) = log.accounts.take().tallies
    assert dict(tally.latencies_of_backend()) == {bucket_of(1_000_000_000 >> 10): 1}


def test_a_line_holds_what_is_known_of_the_request_and_no_secret(all_requests: Log) -> None:
    head = head_of(
        b"/a?token=s3cret&b=1",
        b"Referer: http://x/?b=2&API_KEY=s3cret",
        b"User-Agent: \xffagent\x80",
        b"X-Request-Id: r1",
    )
    all_requests.record(head, 200)
    (line,) = all_requests.lines(1)
    assert b"s3cret" not in line
    values = msgspec.json.decode(line)
    assert values.pop("time").endswith("Z")
    assert 0 <= values.pop("duration_s") < 1
    assert values == {
        "client": "192.0.2.1",
        "method": "GET",
        "host": "h.example",
        "target": "/a?token=***&b=1",
        "protocol": "HTTP/1.1",
        "status": 200,
        "request_bytes": 3,
        "response_bytes": 5,
        "service": "shop",
        "backend": "b1",
        "request_id": "r1",
        "referer": "http://x/?b=2&API_KEY=***",
        "user_agent": "\\xffagent\\x80",
    }


def test_the_fields_are_those_of_the_settings_in_their_order() -> None:
    log = Log(AccessLogSettings(sample=1.0, fields=("status", "request_id", "error")))
    verdict = Verdict(502, "it refused", "connection_refused")
    log.record(head_of(b"/", b"X-Request-Id: made"), 503, verdict=verdict)
    assert log.lines(1) == [b'{"status":503,"request_id":"made","error":"connection_refused"}\n']


def test_a_combined_line_cannot_be_forged() -> None:
    log = Log(AccessLogSettings(sample=1.0, format="combined"))
    log.record(head_of(b'/"a\\', b'User-Agent: a" 1 "\tb\xc3\xa9', b"Referer: r"), 200)
    (line,) = log.lines(1)
    assert line.startswith(b"192.0.2.1 - - [")
    assert line.endswith(b'+0000] "GET /\\"a\\\\ HTTP/1.1" 200 5 "r" "a\\" 1 \\"\\x09b\\xc3\\xa9"\n')


@pytest.mark.parametrize("log_format", ["json", "combined"])
@pytest.mark.parametrize("text", [b"a", b"\xff", b'"', b"\xe2\x82\xac"])
def test_a_line_is_never_longer_than_what_is_written_in_one_piece(
    log_format: Literal["json", "combined"], text: bytes
) -> None:
    log = Log(AccessLogSettings(sample=1.0, format=log_format))
    head = head_of(b"/" + b"a" * 3000, b"Referer: " + text * 3000, b"User-Agent: " + text * 3000)
    log.record(head, 200)
    (line,) = log.lines(1)
    assert 1000 < len(line) <= WRITE_BYTES
    if log_format == "json":
        assert msgspec.json.decode(line)["user_agent"]
    else:
        assert line.count(b'"') - line.count(b'\\"') == 6


def test_a_line_behind_a_torn_one_begins_on_its_own() -> None:
    reader, descriptor = os.pipe()
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(descriptor, False)
    writer = LineWriter(descriptor)
    writer.write(b"x" * 5000 + b"\n")
    writer.flush()
    wait_until(writer.take_dropped, "the pipe takes no more")
    assert os.read(reader, 5000) == b"x" * 4096
    writer.write(b"next\n")
    writer.write(b"last\n")
    writer.flush()
    assert os.read(reader, 5000) == b"\nnext\nlast\n"
    os.close(reader)
    os.close(descriptor)


def test_lines_wait_while_the_system_gives_no_thread_to_write_them() -> None:
    reader, descriptor = os.pipe()
    writer = LineWriter(descriptor)
    writer.write(b"first\n")
    usual = threading.stack_size(1 << 46)
    try:
        writer.flush()
    finally:
        threading.stack_size(usual)
    writer.write(b"second\n")
    writer.flush()
    assert os.read(reader, 100) == b"first\nsecond\n"
    os.close(reader)
    os.close(descriptor)


def test_failed_and_slow_requests_are_written_and_of_the_others_a_share() -> None:
    log = Log(AccessLogSettings(sample=0.25, slow_s=2.0, fields=("status",)))
    for _ in range(8):
        log.record(head_of(), 200)
    log.record(head_of(), 200, 3.0)
    log.record(head_of(), 502)
    log.record(head_of(), 404)
    assert [msgspec.json.decode(line)["status"] for line in log.lines(4)] == [200, 200, 200, 502]


def test_a_reader_that_does_not_read_costs_lines_and_nothing_else(all_requests: Log) -> None:
    head = head_of(b"/" + b"a" * 2000)
    for _ in range(4000):
        all_requests.record(head, 200)
    dropped = all_requests.accounts.take().access_lines_dropped
    assert 0 < dropped < 4000
    assert all_requests.accounts.take().access_lines_dropped == 0


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("token", b"%74oken"),
        ("token", b"t%6F%4ben"),
        ("api key", b"api+key"),
        ("api key", b"API%20key"),
        ("schlüssel", b"schl%c3%bcssel"),
        ("a.b", b"a%2eb"),
    ],
)
def test_a_secret_parameter_is_masked_however_its_name_is_written(name: str, written: bytes) -> None:
    log = Log(AccessLogSettings(sample=1.0, masked_query=(name,)))
    log.record(head_of(b"/a?b=1&" + written + b"=s3cret&c=%74oken"), 200)
    line = msgspec.json.decode(log.lines(1)[0])
    assert line["target"] == f"/a?b=1&{written.decode()}=***&c=%74oken"
