"""A follower that records all it hands on, and the waiting that tests need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tests.support.etcd import EtcdCluster, EtcdServer
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.follow import Change, Follower, Snapshot

LIMIT_S = 30.0


async def until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> float:
    """Wait until it holds; how long that took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.005)
    return time.monotonic() - began_s


def connect(text: str, *, timeout_s: float = LIMIT_S, **options: Any) -> EtcdClient:
    """A client whose requests fail for no other reason than the test's."""
    return EtcdClient(EtcdConfig.from_text(text, timeout_s=timeout_s, **options))


def member_in_use(cluster: EtcdCluster, client: EtcdClient) -> EtcdServer:
    [member] = [member for member in cluster.members if member.endpoint == client.connection.endpoint]
    return member


class Recording:
    """Follows a prefix in the background. Checks each change as it comes: in order, none twice."""

    def __init__(self, client: EtcdClient, prefix: bytes, **options: Any) -> None:
        self.follower = Follower(client, prefix, **options)
        self.changes: list[Change] = []
        self.state: dict[bytes, bytes] = {}
        self.failure: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def snapshots(self) -> list[Snapshot]:
        return [change for change in self.changes if isinstance(change, Snapshot)]

    @property
    def events(self) -> list[tuple[bytes, bytes | None]]:
        """Key and value of each event since the last snapshot, `None` for a deletion."""
        found: list[tuple[bytes, bytes | None]] = []
        for change in self.changes:
            if isinstance(change, Snapshot):
                found = []
                continue
            for event in change.events:
                found.append((event.key_value.key, None if event.deleted else event.key_value.value))
        return found

    async def __aenter__(self) -> Recording:
        self._task = asyncio.create_task(self._record())
        await until(lambda: self.snapshots and self.follower.connected, "it follows")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self.failure is None, self.failure

    async def _record(self) -> None:
        try:
            async for change in self.follower:
                self._take(change)
        except Exception as error:
            self.failure = error
            raise

    def _take(self, change: Change) -> None:
        if isinstance(change, Snapshot):
            self.state = {pair.key: pair.value for pair in change.key_values}
        else:
            assert change.revision > self.changes[-1].revision, (self.changes[-1].revision, change.revision)
            assert change.events
            for event in change.events:
                assert event.key_value.mod_revision == change.revision
                if event.deleted:
                    self.state.pop(event.key_value.key, None)
                else:
                    self.state[event.key_value.key] = event.key_value.value
        self.changes.append(change)

    async def holds(self, key: bytes, value: bytes | None, limit_s: float = LIMIT_S) -> float:
        """Wait until this key has this value; how long that took."""
        return await until(lambda: self.state.get(key) == value, f"{key!r} is {value!r}", limit_s)
