"""Recording one request: what counting it by way, method, status, route and latency costs a worker."""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns

from weldr.model.access_log import AccessLogSettings
from weldr.model.values import Limits, Route
from weldr.proxy.access_log import AccessLog
from weldr.proxy.accounts import Accounts
from weldr.proxy.line_writer import LineWriter
from weldr.proxy.request_head import RequestHead, read_head
from weldr.proxy.routing.compiled import CompiledRoute
from weldr.proxy.routing.rules import Verdict

NAME = "recording"
_ROUNDS = 9
_TURNS = 20
_TAKEN_EVERY = 20
"""Times as many requests, some 20,000: what was counted is taken away each second."""


@dataclass(slots=True)
class _Request:
    """One that has ended."""

    head: RequestHead
    started_ns: int
    route: CompiledRoute | None
    request_id: bytes = b"x"
    request_id_line: bytes = b""
    request_bytes: int = 0
    response_bytes: int = 512
    verdict: Verdict | None = None
    client_address: str = "192.0.2.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=200_000, help="in each round")
    parser.add_argument("--backends", type=int, default=50)


def run(options: argparse.Namespace) -> None:
    print(f"{options.backends} backends, {options.requests} requests in each of {_ROUNDS} rounds, CPU time")
    for name, route, sample in (
        ("counted, no access log      ", None, 0.0),
        ("... and by route            ", CompiledRoute("r", Route(service="s")), 0.0),
        ("... and a sample of 1% drawn", CompiledRoute("r", Route(service="s")), 0.01),
    ):
        found = [_round(options, route, sample) for _ in range(_ROUNDS)]
        print(f"{name}  median {statistics.median(found):4.0f} ns, least {min(found):4.0f} ns a request")


def _round(options: argparse.Namespace, route: CompiledRoute | None, sample: float) -> float:
    head = read_head(b"GET /a HTTP/1.1\r\nHost: h.example\r\n\r\n", 0, Limits(), b"")
    assert head is not None
    with open(os.devnull, "wb") as sink:
        log = AccessLog(LineWriter(sink.fileno()))
        log.adopt(AccessLogSettings(format="json" if sample else "off", sample=sample))
        accounts = Accounts(log)
        ways = [("shop", f"b{number}") for number in range(options.backends)]
        statuses = [200] * 18 + [304, 404]
        now_ns = perf_counter_ns()
        # Latencies from 0.2 ms to 51 ms, as they are told apart by the buckets. Few objects, used again and
        # again: what has just been served is in the cache, too.
        requests = [_Request(head[0], now_ns - 200_000 * number, route) for number in range(1, 257)]
        chosen = zip(itertools.cycle(ways), itertools.cycle(requests), itertools.cycle(statuses), strict=False)
        some = list(itertools.islice(chosen, len(ways) * _TURNS))
        turns = range(options.requests // len(some))
        record = accounts.record
        counted_ns = process_time_ns()
        for turn in turns:
            for way, request, status in some:
                record(way, request, status)
            if turn % _TAKEN_EVERY == 0:
                accounts.take()
        counted_ns = process_time_ns() - counted_ns
        empty_ns = process_time_ns()
        for _ in turns:
            for _way, _request, _status in some:
                pass
        empty_ns = process_time_ns() - empty_ns
        log.writer.flush()
    return (counted_ns - empty_ns) / (len(some) * len(turns))
