"""`weldr top`: what goes on now, in the terminal. Each instance is asked itself; etcd only who there is."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import click
import msgspec

from weldr.cli.connect import Where, finish, store_options
from weldr.cli.output import show_table
from weldr.cli.store import Store
from weldr.control.admin.views import Stats, WayStats
from weldr.model.keys import Kind
from weldr.model.values import Instance

_ASK_LIMIT_S = 2.0
_MOST_INSTANCES = 64
_MOST_ROWS = 200

Way = tuple[str, str]


@dataclass
class _Look:
    """What all instances said at one time."""

    at_s: float
    stats: dict[str, Stats | str] = field(default_factory=dict)
    """By instance; a reason for one that did not answer."""


@click.command()
@click.option("--interval", "interval_s", type=click.FloatRange(0.2, 3600), default=1.0, show_default=True)
@click.option("--number", "-n", type=click.IntRange(1), help="End after so many looks. [default: on Ctrl-C]")
@store_options
def top(where: Where, interval_s: float, number: int | None) -> None:
    """Show requests, failures and latencies by backend, again and again.

    With --admin of that instance, otherwise of each at the admin address that it has in etcd.
    """
    finish(_top(where, interval_s, number))


async def _top(where: Where, interval_s: float, number: int | None) -> None:
    import aiohttp

    # A token goes to whom it was given for, and to no address that a key names.
    headers = {"Authorization": f"Bearer {where.token}"} if where.token and where.admin else {}
    timeout = aiohttp.ClientTimeout(total=_ASK_LIMIT_S)
    async with where.store() as store, aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        before = await _look(where.admin, store, session)
        looks = 0
        while number is None or looks < number:
            await asyncio.sleep(interval_s)
            now = await _look(where.admin, store, session)
            if sys.stdout.isatty():
                click.clear()
            _show(before, now)
            before, looks = now, looks + 1


async def _look(admin: str | None, store: Store, session: Any) -> _Look:
    if admin is not None:
        found = await _ask(session, admin)
        return _Look(time.monotonic(), {found.instance if isinstance(found, Stats) else admin: found})
    urls = await _admin_urls(store)
    answers = await asyncio.gather(*(_ask(session, url) for url in urls.values()))
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


async def _ask(session: Any, url: str) -> Stats | str:
    import aiohttp

    try:
        async with session.get(f"{url.rstrip('/')}/api/v1/stats") as response:
            if response.status != 200:
                return f"{url} answers with status {response.status}"
            return msgspec.json.decode(await response.read(), type=Stats)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return f"{url} cannot be reached from here"


def _show(before: _Look, now: _Look) -> None:
    show_table(("INSTANCE", "CONNECTIONS", "IN FLIGHT", "REVISION"), map(_instance_row, now.stats.items()))
    elapsed_s = max(now.at_s - before.at_s, 0.001)
    old, new = _by_way(before), _by_way(now)
    rows = []
    for way, ways in sorted(new.items()):
        requests = _requests(ways) - _requests(old.get(way, []))
        failures = _failures(ways) - _failures(old.get(way, []))
        # Percentiles cannot be added: the slowest instance is what a person wants to know of.
        p50_s, p99_s = (max(getattr(found, name) or 0.0 for found in ways) for name in ("p50_s", "p99_s"))
        rates = (f"{max(requests, 0) / elapsed_s:.1f}/s", f"{max(failures, 0) / elapsed_s:.1f}/s")
        rows.append((way[0], way[1] or "(none)", *rates, f"{p50_s * 1000:.1f} ms", f"{p99_s * 1000:.1f} ms"))
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
