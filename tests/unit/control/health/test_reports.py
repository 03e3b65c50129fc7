"""The keys in which an instance tells of its backends' health."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from weldr.control.health import reports as reports_module
from weldr.control.health.reports import HealthReports
from weldr.etcd.answers import DeleteResult, Header, PutResult, TransactionResult
from weldr.etcd.client import EtcdClient
from weldr.etcd.operations import Compare, Operation, Put
from weldr.model.health import HealthChange

_OTHERS_REVISION = 900


class FakeClient:
    """An etcd in which others write, too, and in which somebody has deleted what was put."""

    def __init__(self) -> None:
        self.deletions = 0

    async def transaction(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> TransactionResult:
        if all(isinstance(operation, Put) for operation in operations):
            header = Header(1, 1, 7, 1)
            return TransactionResult(header, True, (PutResult(header),))
        self.deletions += 1
        header = Header(1, 1, _OTHERS_REVISION, 1)
        return TransactionResult(header, True, (DeleteResult(header, 0),))


async def test_what_changed_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # The revision in its answer is another prefix's: a watch that does not bring it is in order.
    monkeypatch.setattr(reports_module, "_PAUSE_S", 0.01)
    client = FakeClient()
    written: list[int] = []
    reports = HealthReports(cast(EtcdClient, client), lambda: 5, written.append)
    running = asyncio.create_task(reports.run())
    change = cast(HealthChange, {"state": "down"})
    reports.report(b"k", change)
    await asyncio.sleep(0.05)
    assert written == [7]
    reports.forget(b"k")
    await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert client.deletions == 1
    assert written == [7]
