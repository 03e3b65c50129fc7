"""When a watch is taken for dead and when not, on streams that no real etcd can be made to give in time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.support.fake_etcd import FakeSession, created, progress, written
from weldr.etcd import watch as module
from weldr.etcd.errors import EtcdTimeoutError
from weldr.etcd.watch import watch
from weldr.model.events import Revision

START = 10


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TURN_S", 0.01)


async def first(session: Any, contacts: list[int] | None = None) -> list[Revision]:
    seen = contacts if contacts is not None else []
    stream: AsyncGenerator[list[Revision], None] = watch(
        session, b"/x/", START, on_contact=lambda: seen.append(1)
    )
    async with asyncio.timeout(30), contextlib.aclosing(stream) as revisions:
        return await anext(revisions)


async def test_a_watch_that_catches_up_lives_while_its_member_answers() -> None:
    session = FakeSession(revision=START + 1000)
    session.opened.messages.put_nowait(created(START + 1000))
    watching = asyncio.create_task(first(session))
    while session.asked < 5:
        await asyncio.wait({watching}, timeout=0.01)
        assert not watching.done(), watching
    session.opened.messages.put_nowait(written(b"/x/a", b"1", START + 3))
    assert [revision.revision for revision in await watching] == [START + 3]


async def test_a_watch_that_does_not_catch_up_ends_after_half_a_minute_of_turns() -> None:
    session = FakeSession(revision=START + 1000)
    session.opened.messages.put_nowait(created(START + 1000))
    with pytest.raises(EtcdTimeoutError, match="though its member answers"):
        await first(session)
    assert session.asked > 10


async def test_a_watch_that_begins_in_the_future_lives_for_any_time() -> None:
    session = FakeSession(revision=START - 1)
    session.opened.messages.put_nowait(created(START - 1))
    contacts: list[int] = []
    watching = asyncio.create_task(first(session, contacts))
    while len(contacts) < 30:  # more turns than a watch may take to catch up
        await asyncio.wait({watching}, timeout=0.01)
        assert not watching.done(), watching
    watching.cancel()


async def test_a_silent_watch_of_a_silent_member_ends_soon() -> None:
    session = FakeSession(revision=None)
    session.opened.messages.put_nowait(created(START))
    with pytest.raises(EtcdTimeoutError, match="frozen or cut off"):
        await first(session)
    assert session.asked <= 2


async def test_a_question_that_cannot_be_written_is_neither_repeated_nor_cancelled() -> None:
    session = FakeSession(revision=START + 1000)
    session.opened.messages.put_nowait(created(START + 1000))
    watching = asyncio.create_task(first(session))
    while not session.opened.writes:
        await asyncio.wait({watching}, timeout=0.001)
    session.opened.writable.clear()
    while session.asked < 5:
        await asyncio.wait({watching}, timeout=0.01)
    assert len(session.opened.writes) == 2, "the creation, and one question"
    assert session.opened.cancelled_writes == 0, "it would cancel the stream"
    session.opened.messages.put_nowait(written(b"/x/a", b"1", START))
    await watching


async def test_a_creation_that_cannot_be_written_ends_the_watch() -> None:
    session = FakeSession(revision=START + 1000)
    session.opened.writable.clear()
    with pytest.raises(EtcdTimeoutError, match="frozen or cut off"):
        await first(session)


async def test_a_progress_answer_is_no_place_to_go_on_from() -> None:
    session = FakeSession(revision=START + 5)
    for message in (created(START + 5), progress(START + 5), written(b"/x/a", b"late", START + 2)):
        session.opened.messages.put_nowait(message)
    assert [revision.revision for revision in await first(session)] == [START + 2]
