"""A session and a client that answer as a test says, for what no real etcd can be made to do in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from weldr.etcd.answers import Header, PrefixRead, RangeResult
from weldr.etcd.errors import EtcdUnavailableError
from weldr.etcd.protocol import kv, rpc
from weldr.model.events import KeyValue

CLUSTER, MEMBER = 1, 2


def pair(key: bytes, value: bytes, revision: int) -> KeyValue:
    return KeyValue(key, value, revision, revision)


def created(revision: int) -> Any:
    return rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision), created=True)


def progress(revision: int) -> Any:
    return rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision))


def written(key: bytes, value: bytes, revision: int) -> Any:
    event = kv.Event(kv=kv.KeyValue(key=key, value=value, create_revision=revision, mod_revision=revision))
    return rpc.WatchResponse(header=rpc.ResponseHeader(revision=revision), events=[event])


class FakeStream:
    """Gives the messages that are put in `messages`, and keeps what is written."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.writes: list[Any] = []
        self.cancelled_writes = 0
        self.writable = asyncio.Event()
        self.writable.set()

    async def write(self, message: Any) -> None:
        self.writes.append(message)
        try:
            await self.writable.wait()
        except asyncio.CancelledError:
            self.cancelled_writes += 1
            raise

    async def read(self) -> Any:
        return await self.messages.get()

    def close(self) -> None:
        pass


class FakeSession:
    """One stream, and a revision to answer with beside it; `None` for no answer."""

    def __init__(self, revision: int | None = None) -> None:
        self.endpoint = "http://fake:2379"
        self.revision = revision
        self.asked = 0
        self.opened = FakeStream()
        self.watch = self.kv = self
        self.Watch = self.Range = object()

    def stream(self, method: Any) -> Any:
        return self.opened

    async def call(self, method: Any, request: Any, timeout_s: float) -> Any:
        self.asked += 1
        if self.revision is None:
            await asyncio.sleep(timeout_s)
            raise EtcdUnavailableError("the test says so", endpoint=self.endpoint)
        return rpc.RangeResponse(header=rpc.ResponseHeader(revision=self.revision))


class FakeClient:
    """Reads that succeed, from `key_values` as of `header`, and sessions whose watches stay silent."""

    def __init__(self, revision: int = 1) -> None:
        self.header = Header(CLUSTER, MEMBER, revision, 3)
        self.key_values: tuple[KeyValue, ...] = ()
        self.connection = self
        self.sessions = [FakeSession()]
        self.error: Exception | None = None
        self.watchable = False

    async def session(self, timeout_s: float) -> FakeSession:
        return self.sessions[-1]

    def failed(self, session: FakeSession, error: EtcdUnavailableError) -> None:
        self.sessions.append(FakeSession())
        if self.watchable:
            for message in (created(self.header.revision), progress(self.header.revision)):
                self.sessions[-1].opened.messages.put_nowait(message)

    async def range(self, key: bytes, range_end: bytes, **options: Any) -> RangeResult:
        return RangeResult(self.header, (), False, 0)

    async def read_prefix(self, prefix: bytes) -> PrefixRead:
        return PrefixRead(self.header, self.header.revision, self.key_values)

    async def pages(self, prefix: bytes, *, revision: int = 0) -> AsyncGenerator[PrefixRead, None]:
        if revision and self.error is not None:
            raise self.error
        yield PrefixRead(self.header, revision or self.header.revision, self.key_values)
