"""Thousands of dead backends whose leases have run out go as one change of the catalog."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import cast

import pytest

from weldr.control.catalog_keeper import CatalogKeeper
from weldr.etcd.follow import Change, Follower, Snapshot
from weldr.model.catalog import Catalog
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace, Kind

KEYS = KeySpace()
COUNT = 100


class Told:
    """What etcd tells, from a list."""

    def __init__(self, *batches: list[Change]) -> None:
        self._batches = batches

    async def batches(self) -> AsyncIterator[list[Change]]:
        for batch in self._batches:
            yield batch


async def test_those_that_do_not_answer_go_together(caplog: pytest.LogCaptureFixture) -> None:
    held = [KeyValue(KEYS.key(Kind.BACKEND, "s", f"b{n}"), b"10.0.0.1:80", 1, 1, n + 1) for n in range(COUNT)]
    gone = [Event(KeyValue(each.key, b"", 0, 2), deleted=True) for each in held]
    catalogs: list[Catalog] = []
    changed = asyncio.Event()

    def take(catalog: Catalog) -> None:
        catalogs.append(catalog)
        changed.set()

    told = cast("Follower", Told([Snapshot(1, tuple(held), "start")], [Revision(2, tuple(gone))]))
    keeper = CatalogKeeper(KEYS, told, take, lambda _: None, lambda: None)
    await keeper.run()
    # It has frozen what there is, which here is all of the tests'.
    gc.unfreeze()
    keeper.judge_leases({each.lease: False for each in held})
    assert len(keeper.held) == COUNT
    catalogs.clear()
    changed.clear()
    async with asyncio.timeout(30):
        for number in range(COUNT):
            keeper.let_go("s", f"b{number}", "it refused the connection")
        await changed.wait()
    assert not keeper.held
    [catalog] = catalogs
    assert not catalog.traffic.services
    assert sum(record.levelname == "WARNING" for record in caplog.records) == 21
