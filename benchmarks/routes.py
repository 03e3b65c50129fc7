"""What it costs to find a route, and to change one, among ten thousand."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from weldr.model.routes import Route
from weldr.model.values import Limits
from weldr.proxy.request_head import RequestHead, read_head
from weldr.proxy.routing.table import RouteTable

NAME = "routes"

_ROUTES = 10_000
_HOSTS = 2_000
_ROUNDS = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(_: argparse.Namespace) -> None:
    routes = {f"r{number}": _route(number) for number in range(_ROUTES)}
    began_s = time.process_time()
    table = RouteTable().changed((), routes)
    print(f"{_ROUTES} routes over {_HOSTS} hosts compiled in {time.process_time() - began_s:.2f} s\n")
    print("| | µs of CPU |\n| --- | --- |")
    for title, target in (
        ("lookup, prefix", "/p{}/x/y?q=1"),
        ("lookup, none of the host's", "/none/of/them"),
    ):
        heads = [_head(f"h{number % _HOSTS}.example", target.format(number)) for number in range(_ROUTES)]
        print(f"| {title} | {_each_us(table, heads):.2f} |")
    for title, kind, target in _OTHERS:
        others = RouteTable().changed((), {f"r{number}": kind(number) for number in range(_ROUTES)})
        heads = [
            _head(f"a.b.h{number % _HOSTS}.example", target.format(number), f"X-Number: {number}")
            for number in range(_ROUTES)
        ]
        _check(others, heads)
        print(f"| {title} | {_each_us(others, heads):.2f} |")
    print(f"| a change of one route | {_median_us(lambda: table.changed((), {'r5': _route(5)})):.0f} |")
    shared = RouteTable().changed((), {name: Route(service="s", path=f"/{name}") for name in routes})
    change = {"r5": Route(service="t", path="/r5")}
    print(f"| a change of one route, all on one host | {_median_us(lambda: shared.changed((), change)):.0f} |")


def _route(number: int) -> Route:
    return Route(service=f"s{number}", host=f"h{number % _HOSTS}.example", path=f"/p{number}")


def _wildcard(number: int) -> Route:
    return Route(service=f"s{number}", host=f"*.h{number % _HOSTS}.example", path=f"/p{number}")


def _deep(number: int) -> Route:
    return Route(service=f"s{number}", host=f"a.b.h{number % _HOSTS}.example", path=f"/a/b/c/p{number}")


def _conditional(number: int) -> Route:
    host, path = f"a.b.h{number % _HOSTS}.example", f"/p{number}"
    return Route(service=f"s{number}", host=host, path=path, methods=["GET"], headers={"X-Number": str(number)})


def _glob(number: int) -> Route:
    host = f"a.b.h{number % _HOSTS}.example"
    return Route(service=f"s{number}", host=host, path_glob=f"/p{number}/*/z")


_OTHERS: list[tuple[str, Callable[[int], Route], str]] = [
    ("lookup, prefix, two labels below `*.`", _wildcard, "/p{}/x/y?q=1"),
    ("lookup, prefix of four segments", _deep, "/a/b/c/p{}/x"),
    ("lookup, prefix, with a method and a field", _conditional, "/p{}/x/y?q=1"),
    ("lookup, glob", _glob, "/p{}/x/z"),
]


def _check(table: RouteTable, heads: list[RequestHead]) -> None:
    for number, head in enumerate(heads):
        found = table.find(head, "192.0.2.1")
        assert found is not None
        assert found.name == f"r{number}"


def _head(host: str, target: str, *fields: str) -> RequestHead:
    lines = "\r\n".join((f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "\r\n"))
    found = read_head(lines.encode(), 0, Limits(), b"")
    assert found is not None
    return found[0]


def _each_us(table: RouteTable, heads: list[RequestHead]) -> float:
    def look_up() -> None:
        for head in heads:
            table.find(head, "192.0.2.1")

    return _median_us(look_up) / len(heads)


def _median_us(action: Callable[[], object]) -> float:
    took = []
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        action()
        took.append(time.process_time() - began_s)
    return statistics.median(took) * 1e6
