"""What it costs to pick a backend, to find a route, to change one of ten thousand, and what that all weighs."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_args, get_type_hints

from benchmarks import routes
from tests.support.worker import running_worker
from weldr.model.balancing import Balance
from weldr.model.catalog import Catalog
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.frames import Downward, FrameReader, Update, encode_frame
from weldr.model.keys import KeySpace, Kind
from weldr.model.traffic import Traffic, difference
from weldr.proxy.balancing.balancer import Balancer
from weldr.proxy.balancing.latency import PeakLatency
from weldr.proxy.balancing.policies import balancer
from weldr.proxy.fleet import Fleet

NAME = "policies"

_BACKENDS = 10_000
_ROUTES = 10_000
_HOSTS = 2_000
_CHANGES = 50
_MEMBERS = (10, 1_000, 10_000)
_PICKS = 20_000
_ROUNDS = 5
_KEYS = KeySpace()

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(options: argparse.Namespace) -> None:
    routes.run(options)
    print("\nOne pick, in µs of CPU, of backends with four different weights:\n")
    _measure_picks()
    print(f"\nOne backend of {_BACKENDS:,} in one service changes its weight:\n")
    _measure_change()
    print(f"\nA service of {_BACKENDS:,} backends is given another policy, in ms of CPU:\n")
    _measure_switches()
    print(
        f"\nMemory of {_BACKENDS:,} backends in 1,000 services and {_ROUTES:,} routes over {_HOSTS:,} hosts:\n"
    )
    _measure_memory()


# A pick.


class _Backend:
    """A member with some requests in flight."""

    full = False

    def __init__(self, number: int) -> None:
        self.name = b"b%d" % number
        self.in_flight = number % 7
        self.latency: PeakLatency | None = None


def _measure_picks() -> None:
    print(f"| policy | {' | '.join(f'{count:,}' for count in _MEMBERS)} | one change of {_MEMBERS[-1]:,} |")
    print("| --- |" + " --- |" * (len(_MEMBERS) + 1))
    for policy in get_args(get_type_hints(Balance)["policy"]):
        cells = [_pick_us(_filled(policy, count)) for count in _MEMBERS]
        cells.append(_change_us(policy, _MEMBERS[-1]))
        print(f"| {policy} | {' | '.join(f'{us:.2f}' for us in cells)} |")


def _filled(policy: str, count: int) -> Balancer[_Backend]:
    made: Balancer[_Backend] = balancer(Balance(policy=policy), lambda each: each.name)  # type: ignore[arg-type]
    for number in range(count):
        made.put(_Backend(number), 1 + number % 4)
    return made


def _pick_us(made: Balancer[_Backend]) -> float:
    keys = [random.getrandbits(64) for _ in range(_PICKS)]
    made.pick((), keys[0], 0.0)
    took = []
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        for key in keys:
            made.pick((), key, 1.0)
        took.append(time.process_time() - began_s)
    return statistics.median(took) * 1e6 / _PICKS


def _change_us(policy: str, count: int) -> float:
    """One member comes and goes, with a pick after each: what is put off until then counts, too."""
    made, took = _filled(policy, count), []
    made.pick((), 1, 0.0)
    for number in range(_CHANGES):
        member = _Backend(count + number)
        began_s = time.process_time()
        made.put(member, 2)
        made.pick((), 1, 1.0)
        made.remove(member)
        made.pick((), 1, 1.0)
        took.append(time.process_time() - began_s)
    return statistics.median(took) * 1e6 / 2


# A change.


def _measure_change() -> None:
    catalog = Catalog(_KEYS).resync(1, [_backend("s", number, 1) for number in range(_BACKENDS)])
    fleet = Fleet(lambda: None)
    fleet.apply(difference(Traffic(), catalog.traffic))
    reader: FrameReader[Downward] = FrameReader(Downward)
    took: dict[str, list[float]] = {}
    for number in range(_CHANGES):
        revision = catalog.revision + 1
        changed = _backend("s", number * 97 % _BACKENDS, 2, revision)
        before = catalog.traffic
        catalog = _timed(
            took,
            "manager: fold",
            lambda: catalog.fold([Revision(revision, (Event(changed),))]),  # noqa: B023
        )
        delta = _timed(took, "manager: difference", lambda: difference(before, catalog.traffic))  # noqa: B023
        frame = _timed(took, "manager: frame", lambda: encode_frame(Update(revision, delta)))  # noqa: B023
        [update] = _timed(took, "worker: frame", lambda: reader.feed(frame))  # noqa: B023
        assert isinstance(update, Update)
        _timed(took, "worker: apply", lambda: fleet.apply(update.delta))  # noqa: B023
    print("| | µs of CPU, median |\n| --- | --- |")
    for title, seconds in took.items():
        print(f"| {title} | {statistics.median(seconds) * 1e6:.0f} |")


def _measure_switches() -> None:
    """What keeps requests waiting when the policy changes, and what is done bit by bit after that."""
    catalog = Catalog(_KEYS).resync(1, [_backend("s", number, 1) for number in range(_BACKENDS)])
    fleet = Fleet(lambda: None)
    fleet.apply(difference(Traffic(), catalog.traffic))
    # As a worker does with its first catalog.
    gc.collect()
    gc.freeze()
    print("| | at once | longest step after that | steps in all |\n| --- | --- | --- | --- |")
    for policy in ("least_requests", "consistent_hash", "round_robin"):
        revision, before = catalog.revision + 1, catalog.traffic
        value = json.dumps({"balance": {"policy": policy}}).encode()
        key = KeyValue(_KEYS.key(Kind.SERVICE, "s"), value, 1, revision)
        catalog = catalog.fold([Revision(revision, (Event(key),))])
        took: dict[str, list[float]] = {"steps": [0.0]}
        delta = difference(before, catalog.traffic)
        _timed(took, "at once", lambda: fleet.apply(delta))  # noqa: B023
        while _timed(took, "steps", fleet.catch_up):
            pass
        at_once, steps = took["at once"][0] * 1e3, took["steps"]
        print(f"| {policy} | {at_once:.0f} | {max(steps) * 1e3:.1f} | {sum(steps) * 1e3:.0f} |")
    gc.unfreeze()


def _timed(took: dict[str, list[float]], title: str, action: Callable[[], T]) -> T:
    began_s = time.process_time()
    result = action()
    took.setdefault(title, []).append(time.process_time() - began_s)
    return result


# Memory.


def _measure_memory() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        manager = pool.apply(_manager_bytes)
    worker = asyncio.run(_worker_bytes())
    print("| | MiB |\n| --- | --- |")
    print(f"| manager | {manager / 2**20:.0f} |\n| each worker | {worker / 2**20:.0f} |")


def _catalog() -> Catalog:
    backends = [_backend(f"s{number % 1000}", number, 1) for number in range(_BACKENDS)]
    return Catalog(_KEYS).resync(1, [*backends, *(_route(number) for number in range(_ROUTES))])


def _manager_bytes() -> int:
    """What the catalog adds to a process that has loaded all that it needs for one."""
    held = [Catalog(_KEYS).resync(1, [_backend("s", 0, 1), _route(0)])]
    gc.collect()
    before = _rss_bytes()
    held.append(_catalog())
    gc.collect()
    return _rss_bytes() - before


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


async def _worker_bytes() -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with running_worker(Path(folder) / "log") as worker:
            await worker.serve(Traffic())
            before = worker.rss_bytes
            await worker.serve(_catalog().traffic)
            return worker.rss_bytes - before


def _backend(service: str, number: int, weight: int, revision: int = 1) -> KeyValue:
    value = json.dumps({"url": f"http://10.0.{number >> 8}.{number & 255}:8080", "weight": weight}).encode()
    return KeyValue(_KEYS.key(Kind.BACKEND, service, f"b{number}"), value, 1, revision)


def _route(number: int) -> KeyValue:
    value = {"host": f"h{number % _HOSTS}.example", "path": f"/p{number}", "service": f"s{number % 1000}"}
    return KeyValue(_KEYS.key(Kind.ROUTE, f"r{number}"), json.dumps(value).encode(), 1, 1)
