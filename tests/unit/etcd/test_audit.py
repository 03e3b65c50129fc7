"""What the audit judges, and what it must not judge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.fake_etcd import CLUSTER, FakeClient, pair
from weldr.etcd import audit as module
from weldr.etcd.audit import Noted, audit, fingerprint
from weldr.etcd.errors import EtcdCompactedError, EtcdFutureRevisionError, EtcdOtherClusterError

OLD, NEW = pair(b"/x/a", b"old", 3), pair(b"/x/a", b"new", 3)


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELIVERY_LIMIT_S", 0.01)


def noted(cluster_id: int = CLUSTER) -> Noted:
    return Noted(cluster_id, 3, {OLD.key: fingerprint(OLD)})


async def run(client: FakeClient, note: Noted, held_back: Any = lambda: False) -> Any:
    async with asyncio.timeout(30):
        return await audit(client, b"/x/", lambda: note, held_back)  # type: ignore[arg-type]


async def test_another_value_at_the_same_revision_is_a_difference() -> None:
    client = FakeClient(revision=3)
    client.key_values = (OLD,)
    assert await run(client, noted()) is None
    client.key_values = (NEW,)
    found = await run(client, noted())
    assert found.keys == (b"/x/a",)


async def test_another_cluster_or_an_earlier_revision_is_told_as_such() -> None:
    client = FakeClient(revision=3)
    client.key_values = (OLD,)
    with pytest.raises(EtcdOtherClusterError):
        await run(client, noted(cluster_id=CLUSTER + 1))
    client.error = EtcdFutureRevisionError()
    with pytest.raises(EtcdFutureRevisionError):
        await run(client, noted())


async def test_behind_compacted_history_nothing_is_judged_while_the_consumer_holds_changes_back() -> None:
    client = FakeClient(revision=9)
    client.error = EtcdCompactedError()
    client.key_values = (NEW,)
    held_back = True
    auditing = asyncio.create_task(run(client, noted(), lambda: held_back))
    done, _ = await asyncio.wait({auditing}, timeout=0.2)
    assert not done
    held_back = False
    assert (await auditing).keys == (b"/x/a",)
