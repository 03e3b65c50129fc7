"""`weldr top`: what goes on now, in the terminal. Each instance is asked itself; etcd only who there is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click
import msgspec

from weldr.cli.asking import ask_stats, stats_session
from weldr.cli.connect import Where, finish, store_options
from weldr.cli.help import examples
from weldr.cli.output import output_option, show_next, show_table
from weldr.cli.store import Store
from weldr.control.admin.views import Stats, WayStats
from weldr.model.keys import Kind
from weldr.model.values import Instance

if TYPE_CHECKING:
    import aiohttp

_MOST_INSTANCES = 64
_MOST_ROWS = 200

Way = tuple[str, str]


@dataclass
class _Look:
    """What all instances said at one time."""

    at_s: float
    stats: dict[str, Stats | str] = field(default_factory=dict)
    """By instance; a reason for one that did not answer."""


@click.command(epilog=examples("weldr top", "weldr top --interval 5 -n 1 -o json"))
@output_option
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.2, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--number", "-n", type=click.IntRange(1), help="End after so many looks. [default: on Ctrl-C]")
@store_options
def top(where: Where, output: str, interval_s: float, number: int | None) -> None:
    """Show requests, failures and latencies by backend, again and again.

    With --admin of that instance, otherwise of each at the admin address that it has in etcd.
    """
    finish(_top(where, output, interval_s, number))


async def _top(where: Where, output: str, interval_s: float, number: int | None) -> None:
    async with where.store() as store, stats_session() as session:
        before = await _look(where, store, session)
        looks = 0
        while number is None or looks < number:
            await asyncio.sleep(interval_s)
            now = await _look(where, store, session)
            if output != "table":
                show_next(_document(before, now), output)
            else:
                if sys.stdout.isatty():
                    click.clear()
                _show(before, now)
            before, looks = now, looks + 1


async def _look(where: Where, store: Store, session: aiohttp.ClientSession) -> _Look:
    admin = where.admin
    if admin is not None:
        found = await ask_stats(session, admin, where)
        return _Look(time.monotonic(), {found.instance if isinstance(found, Stats) else admin: found})
    urls = await _admin_urls(store)
    answers = await asyncio.gather(*(ask_stats(session, url, where) for url in urls.values()))
    return _Look(time.monotonic(), dict(zip(urls, answers, strict=True)))


async def _admin_urls(store: Store) -> dict[str, str]:
    state = await store.read()
    urls: dict[str, str] = {}
    for name, pair in state.pairs.items():
        if name.kind is Kind.INSTANCE and len(urls) < _MOST_INSTANCES:
            try:
                urls[name.names[0]] = f"http://{msgspec.json.decode(pair.value, type=Instance).admin}"
            except msgspec.MsgspecError:
                continue  # no instance of ours wrote it
    return urls


@dataclass(frozen=True, slots=True)
class _Row:
    """What went one way between two looks."""

    service: str
    backend: str
    """Empty for requests that reached none."""
    requests_per_s: float
    failed_per_s: float
    p50_s: float
    p99_s: float
    """Since the instances began; of the slowest one, since percentiles cannot be added."""


def _rows(before: _Look, now: _Look) -> list[_Row]:
    elapsed_s = max(now.at_s - before.at_s, 0.001)
    old, new = _by_way(before), _by_way(now)
    rows = []
    for (service, backend), ways in sorted(new.items()):
        earlier = old.get((service, backend), [])
        requests, failed = (
            max(count(ways) - count(earlier), 0) / elapsed_s for count in (_requests, _failures)
        )
        p50_s, p99_s = (max(getattr(found, name) or 0.0 for found in ways) for name in ("p50_s", "p99_s"))
        rows.append(_Row(service, backend, requests, failed, p50_s, p99_s))
    return rows


def _document(before: _Look, now: _Look) -> dict[str, Any]:
    instances = {
        name: {"unknown": stats} if isinstance(stats, str) else msgspec.to_builtins(stats.workers)
        for name, stats in now.stats.items()
    }
    return {"instances": instances, "ways": [asdict(row) for row in _rows(before, now)]}


def _show(before: _Look, now: _Look) -> None:
    show_table(("INSTANCE", "CONNECTIONS", "IN FLIGHT", "REVISION"), map(_instance_row, now.stats.items()))
    rows = [
        (
            row.service,
            row.backend or "(none)",
            f"{row.requests_per_s:.1f}/s",
            f"{row.failed_per_s:.1f}/s",
            f"{row.p50_s * 1000:.1f} ms",
            f"{row.p99_s * 1000:.1f} ms",
        )
        for row in _rows(before, now)
    ]
    show_table(("SERVICE", "BACKEND", "REQUESTS", "FAILED", "P50", "P99"), rows[:_MOST_ROWS])


def _instance_row(item: tuple[str, Stats | str]) -> tuple[str, str, str, str]:
    name, stats = item
    if isinstance(stats, str):
        return name, stats, "", ""
    connections = sum(worker.connections or 0 for worker in stats.workers)
    in_flight = sum(worker.in_flight or 0 for worker in stats.workers)
    return name, str(connections), str(in_flight), str(stats.applied_revision)


def _by_way(look: _Look) -> dict[Way, list[WayStats]]:
    found: dict[Way, list[WayStats]] = defaultdict(list)
    for stats in look.stats.values():
        if isinstance(stats, Stats):
            for way in stats.ways:
                found[way.service, way.backend].append(way)
    return found


def _requests(ways: list[WayStats]) -> int:
    return sum(way.requests for way in ways)


def _failures(ways: list[WayStats]) -> int:
    return sum(way.responses.get("5xx", 0) + way.responses.get("none", 0) for way in ways)
