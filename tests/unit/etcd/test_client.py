"""Requests: what is sent again, what counts as the time of a lease, and what goes with each request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig
from weldr.etcd.errors import EtcdUnavailableError
from weldr.etcd.protocol import rpc
from weldr.etcd.session import Session


class ScriptedSession:
    """Answers each request by the next of its answers."""

    def __init__(self, *answers: Callable[[], Any]) -> None:
        self.endpoint = "http://fake:2379"
        self.token = None
        self.sent: list[Any] = []
        self.kv = self.lease = self
        self.Put = self.Range = self.LeaseKeepAlive = object()
        self._answers = list(answers)

    async def call(self, method: Any, request: Any, timeout_s: float) -> Any:
        self.sent.append(request)
        return self._answers.pop(0)()

    async def exchange(self, method: Any, request: Any, timeout_s: float) -> Any:
        return await self.call(method, request, timeout_s)


class ScriptedConnection:
    """Always gives the same session."""

    def __init__(self, session: ScriptedSession) -> None:
        self._session = session

    async def session(self, timeout_s: float) -> ScriptedSession:
        return self._session

    def failed(self, session: ScriptedSession, error: EtcdUnavailableError) -> None:
        pass

    def succeeded(self) -> None:
        pass

    async def close(self) -> None:
        pass


def client_of(session: ScriptedSession) -> EtcdClient:
    client = EtcdClient(EtcdConfig.from_text("http://fake:2379"))
    client.connection = ScriptedConnection(session)  # type: ignore[assignment]
    return client


def lost(*, maybe_applied: bool) -> Callable[[], Any]:
    def answer() -> Any:
        raise EtcdUnavailableError("cut", endpoint="http://fake:2379", maybe_applied=maybe_applied)

    return answer


def put() -> Any:
    return rpc.PutResponse(header=rpc.ResponseHeader(revision=7))


async def test_a_write_whose_answer_is_lost_is_not_sent_again() -> None:
    session = ScriptedSession(lost(maybe_applied=True), put)
    with pytest.raises(EtcdUnavailableError) as failure:
        await client_of(session).put(b"a", b"1", timeout_s=5)
    assert failure.value.maybe_applied
    assert len(session.sent) == 1


async def test_a_write_that_never_left_is_sent_again() -> None:
    session = ScriptedSession(lost(maybe_applied=False), lost(maybe_applied=False), put)
    assert (await client_of(session).put(b"a", b"1", timeout_s=5)).revision == 7
    assert len(session.sent) == 3


async def test_a_read_whose_answer_is_lost_is_sent_again() -> None:
    session = ScriptedSession(lost(maybe_applied=True), lambda: rpc.RangeResponse(count=3))
    assert (await client_of(session).range(b"a", timeout_s=5)).count == 3


@pytest.mark.real_time
async def test_a_request_that_has_no_time_left_tells_its_last_real_failure() -> None:
    session = ScriptedSession(*[lost(maybe_applied=False)] * 1000)
    began_s = time.monotonic()
    with pytest.raises(EtcdUnavailableError, match="cut") as failure:
        await client_of(session).put(b"a", b"1", timeout_s=0.3)
    assert not failure.value.maybe_applied
    assert time.monotonic() - began_s < 0.3


@pytest.mark.parametrize("delay_s", [0.0, 0.4])
@pytest.mark.real_time
async def test_a_renewed_lease_counts_from_before_the_renewal_was_sent(delay_s: float) -> None:
    def late() -> Any:
        # The event loop may be held up between etcd's renewal and our reading of its answer.
        time.sleep(delay_s)
        return rpc.LeaseKeepAliveResponse(ID=1, TTL=10)

    sent_s = time.monotonic()
    grant = await client_of(ScriptedSession(late)).renew_lease(1, timeout_s=5)
    assert sent_s + 10 <= grant.deadline_s < sent_s + 10 + 0.3


class _RecordingStub:
    def __init__(self) -> None:
        self.metadata: list[tuple[tuple[str, str], ...]] = []

    def __call__(self, *_: object, metadata: tuple[tuple[str, str], ...], **__: object) -> Awaitable[Any]:
        self.metadata.append(metadata)

        async def answer() -> Any:
            return rpc.RangeResponse()

        return answer()


async def test_every_request_and_stream_asks_for_a_member_with_a_leader() -> None:
    session = Session(EtcdConfig.from_text("http://127.0.0.1:1").endpoints[0], _NoChannel(), lambda: "token")
    stub = _RecordingStub()
    await session.call(stub, rpc.RangeRequest(), 1.0)
    opened = session.stream(stub)
    assert stub.metadata == [(("hasleader", "true"), ("token", "token"))] * 2
    await opened._call


class _NoChannel:
    """As much of a channel as the stubs ask for when they are made."""

    def unary_unary(self, *_: object, **__: object) -> None:
        return None

    unary_stream = stream_unary = stream_stream = unary_unary
