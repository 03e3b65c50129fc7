"""What it costs to choose a backend under each policy, to change one of ten thousand, and the memory of it."""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from weldr.model.balancing import Balance, HashBy, Sticky
from weldr.model.traffic import ServiceTraffic, Traffic, TrafficDelta, difference
from weldr.model.values import Backend, Limits, Service
from weldr.proxy.fleet import Fleet
from weldr.proxy.request_head import RequestHead, read_head

NAME = "policies"

_COUNTS = (10, 1_000, 10_000)
_PICKS = 5_000
_CHANGES = 100
_ROUNDS = 7
_KEY = b"k" * 32
_POLICIES: dict[str, Balance] = {
    "round robin": Balance(),
    "random": Balance(policy="random"),
    "least requests": Balance(policy="least_requests"),
    "peak EWMA": Balance(policy="peak_ewma"),
    "consistent hash, by client": Balance(policy="consistent_hash"),
    "consistent hash, by cookie": Balance(policy="consistent_hash", hash_by=HashBy(cookie="id")),
    "round robin, sticky, no cookie yet": Balance(sticky=Sticky(cookie="id")),
    "round robin, own zone": Balance(),
}
_WEIGHTS: dict[str, Callable[[int], int]] = {
    "equal weights": lambda number: 1,
    "weights from 1 to 7": lambda number: 1 + number % 7,
    "all weights different": lambda number: 1 + number,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(_: argparse.Namespace) -> None:
    head = _head()
    header = " | ".join(f"{count:,}" for count in _COUNTS)
    print("A pick, in µs of CPU, the best of seven rounds, among so many backends of one service:\n")
    print(f"| | {header} |\n| --- |{' --- |' * len(_COUNTS)}")
    for title, balance in _POLICIES.items():
        for words, weight in _WEIGHTS.items():
            if words == "equal weights" or balance == Balance(policy=balance.policy):
                zone = "here" if "zone" in title else ""
                costs = [f"{_pick_us(_World(count, balance, weight, zone), head):.2f}" for count in _COUNTS]
                print(f"| {title}, {words} | {' | '.join(costs)} |")
    print(f"\nOne of {_COUNTS[-1]:,} backends of one service:\n")
    print("| | weight changes, µs | drains and is back, µs | kB for each backend | s of CPU to build |")
    print("| --- | --- | --- | --- | --- |")
    for title, balance in _POLICIES.items():
        print(f"| {title} | {_change_row(balance)} |")
    print(f"| round robin, {_COUNTS[-1]:,} backends in 1,000 services | {_spread_row()} |")


def _change_row(balance: Balance) -> str:
    began_s = time.process_time()
    world = _World(_COUNTS[-1], balance, lambda number: 1)
    built_s = time.process_time() - began_s
    return f"{world.weight_us():.0f} | {world.drain_us():.0f} | {_kilobytes(balance):.1f} | {built_s:.2f}"


def _spread_row() -> str:
    began_s = time.process_time()
    world = _World(_COUNTS[-1], Balance(), lambda number: 1, services=1_000)
    built_s = time.process_time() - began_s
    return f"{world.weight_us():.0f} | {world.drain_us():.0f} | | {built_s:.2f}"


class _World:
    """A fleet as a worker has it."""

    def __init__(
        self, count: int, balance: Balance, weight: Callable[[int], int], zone: str = "", services: int = 1
    ) -> None:
        self.fleet = Fleet(lambda: None, zone=zone)
        policy = Service(balance=balance)
        backends: list[dict[str, Backend]] = [{} for _ in range(services)]
        for number in range(count):
            backends[number % services][f"b{number}"] = _backend(number, weight(number))
        self._traffic = Traffic(
            services={f"s{index}": ServiceTraffic(policy, each) for index, each in enumerate(backends)},
            sticky_key=_KEY,
        )
        self.fleet.apply(difference(Traffic(), self._traffic))

    def pick(self, head: RequestHead) -> Callable[[], object]:
        """What an exchange does to choose."""
        service = self.fleet.table.services["s0"]
        for number, pool in enumerate(service.members):
            pool.in_flight = number % 3
            if pool.latency is not None:
                pool.latency.observe(0.001 * (1 + number % 5), 1000.0)
        chooser, balancer = service.chooser, service.balancer
        if chooser is None:
            return lambda: balancer.pick(())
        return lambda: chooser.pick((), head, "192.0.2.1", 1000.0)

    def weight_us(self) -> float:
        return self._changes_us([_backend(5, 2 + number) for number in range(_CHANGES)])

    def drain_us(self) -> float:
        states = [_backend(5, 1, drain=True), _backend(5, 1)]
        return self._changes_us([states[number % 2] for number in range(_CHANGES)])

    def _changes_us(self, values: list[Backend]) -> float:
        took = []
        for value in values:
            delta = self._delta(value)
            began_s = time.process_time()
            self.fleet.apply(delta)
            took.append(time.process_time() - began_s)
        return statistics.median(took) * 1e6

    def _delta(self, value: Backend) -> TrafficDelta:
        before = self._traffic
        name = f"s{5 % len(before.services)}"
        held = before.services[name]
        backends = {**held.backends, "b5": value}
        services = {**before.services, name: ServiceTraffic(held.policy, backends)}
        self._traffic = Traffic(services, before.routes, before.settings, before.sticky_key)
        return difference(before, self._traffic)


def _backend(number: int, weight: int, **members: Any) -> Backend:
    zone = ("here", "there")[number % 2]
    host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return Backend(host=host, port=80, weight=weight, zone=zone, **members)


def _head() -> RequestHead:
    found = read_head(b"GET /a/b?c HTTP/1.1\r\nHost: h\r\nCookie: a=1; id=abcdefgh\r\n\r\n", 0, Limits(), b"")
    assert found is not None
    return found[0]


def _pick_us(world: _World, head: RequestHead) -> float:
    pick = world.pick(head)
    took = []
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        for _ in range(_PICKS):
            pick()
        took.append(time.process_time() - began_s)
    return min(took) / _PICKS * 1e6


def _kilobytes(balance: Balance, count: int = 2_000) -> float:
    """Of the worker, for each backend: its value, its pool and its part in the balancer."""
    tracemalloc.start()
    world = _World(count, balance, lambda number: 1)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del world
    return taken / count / 1000
