"""One watch on one stream, for as long as it lives.

A stream that is silent may be quiet or dead: the member frozen, the host gone without a word, or etcd stuck. So
a quiet stream is asked for its progress every 1.5 s, and one that stays silent for 3.5 s is given up. That is
counted in turns of waiting and not by a clock: if this process was stopped for a minute, one turn has passed
and what arrived meanwhile is read before the next. The answers to those questions are signs of life and nothing
else: servers before 3.5.8 and 3.4.25 send them ahead of events that belong before them.

Servers from 3.5.8 on do not answer while the watch begins in their future, as one behind a fresh snapshot does
until something is written. Then the same member is asked, beside the stream, for its revision: if that is still
before the watch's beginning, there is nothing that the watch could have delivered.

Nor do they answer while the watch catches up with a long history. So whatever the member answers beside the
stream is a sign of life, too, but only for half a minute: by then the watch should have caught up, and whoever
follows does better to read all anew.

A watch can be alive and deliver nothing. Who writes below the watched prefix says at which revision
(`expected`); if it does not arrive within 3 s, the stream is given up, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from weldr.etcd.answers import event_of
from weldr.etcd.client import prefix_end
from weldr.etcd.errors import (
    EtcdAuthError,
    EtcdCompactedError,
    EtcdError,
    EtcdTimeoutError,
    EtcdUnavailableError,
)
from weldr.etcd.protocol import rpc
from weldr.etcd.revisions import RevisionAssembler
from weldr.etcd.session import Session
from weldr.model.events import Revision

_TURN_S = 0.5
_TURNS_TO_ASK = 3
_TURNS_TO_ASK_BESIDE = 5
_TURNS_TO_DEATH = 7
_TURNS_TO_CATCH_UP = 60
_TURNS_TO_EXPECT = 6


async def watch(
    session: Session,
    prefix: bytes,
    start_revision: int,
    *,
    expected: Callable[[], int] = lambda: 0,
    on_contact: Callable[[], None] = lambda: None,
) -> AsyncGenerator[list[Revision], None]:
    """The changes below `prefix` from a revision on, as they arrive: whole revisions, none twice.

    `on_contact` is called for everything that arrives, and first when etcd has taken the watch.

    Raises `EtcdCompactedError`, `EtcdUnavailableError` and `EtcdAuthError`; it never ends otherwise.
    """
    create = rpc.WatchCreateRequest(
        key=prefix or b"\0", range_end=prefix_end(prefix), start_revision=start_revision, fragment=True
    )
    endpoint = str(session.endpoint)
    assembler = RevisionAssembler(start_revision - 1)
    reader = _LivelyReader(session, create, on_contact)
    try:
        while True:
            message = await reader.read(late=lambda: assembler.revision < expected())
            _raise_if_canceled(message, endpoint)
            on_contact()
            events = (event_of(event) for event in message.events)
            revisions = assembler.feed(events, more_fragments=message.fragment)
            if revisions:
                yield revisions
    finally:
        reader.close()


def _raise_if_canceled(message: Any, endpoint: str) -> None:
    # A refused watch is answered as created and canceled in one.
    if not message.canceled:
        return
    reason = message.cancel_reason or "etcd gave no reason"
    if message.compact_revision:
        raise EtcdCompactedError(message.compact_revision)
    if "permission denied" in reason or "auth" in reason:
        # Old versions say "permission denied" for a token that they do not know, too.
        raise EtcdAuthError(f"the watch was canceled: {reason}")
    raise EtcdUnavailableError(f"the watch was canceled: {reason}", endpoint=endpoint)


class _LivelyReader:
    """Reads the messages of a watch and finds out when nothing will come any more."""

    def __init__(self, session: Session, create: Any, on_contact: Callable[[], None]) -> None:
        self._session = session
        self._create = create
        self._on_contact = on_contact
        self._stream = session.stream(session.watch.Watch)
        self._messages = 0
        self._silent_turns = 0
        self._catching_up_turns = 0
        self._late_turns = 0
        self._asking: asyncio.Task[None] | None = None
        self._asking_beside: asyncio.Task[None] | None = None

    async def read(self, late: Callable[[], bool]) -> Any:
        """The next message. `late` tells whether a revision is missing that should have come.

        Raises `EtcdUnavailableError`.
        """
        # One read outlives many turns: to cancel it would end the stream.
        reading = asyncio.ensure_future(self._read_one())
        self._silent_turns = 0
        self._catching_up_turns = 0
        try:
            while not (await asyncio.wait({reading}, timeout=_TURN_S))[0]:
                self._take_turn(late())
            message = reading.result()
        finally:
            reading.cancel()
        if message is None:
            raise EtcdUnavailableError("the watch ended", endpoint=str(self._session.endpoint))
        self._messages += 1
        if message.events:
            self._late_turns = 0
        return message

    async def _read_one(self) -> Any:
        if self._messages == 0:
            await self._stream.write(rpc.WatchRequest(create_request=self._create))
        return await self._stream.read()

    def _take_turn(self, late: bool) -> None:
        self._silent_turns += 1
        self._catching_up_turns += 1
        self._late_turns = self._late_turns + 1 if late else 0
        endpoint = str(self._session.endpoint)
        if self._silent_turns >= _TURNS_TO_DEATH:
            raise EtcdTimeoutError("the watch is silent: frozen or cut off", endpoint=endpoint)
        if self._late_turns >= _TURNS_TO_EXPECT:
            raise EtcdTimeoutError("the watch does not deliver what was written", endpoint=endpoint)
        if self._catching_up_turns >= _TURNS_TO_CATCH_UP:
            raise EtcdTimeoutError("the watch is silent, though its member answers", endpoint=endpoint)
        if self._messages == 0:
            return
        if self._silent_turns == _TURNS_TO_ASK:
            self._asking = _unless_under_way(self._asking, self._ask_for_progress)
        # Only its creation was answered so far: maybe it begins in the future.
        beside = _TURNS_TO_ASK if self._messages == 1 else _TURNS_TO_ASK_BESIDE
        if self._silent_turns == beside:
            self._asking_beside = _unless_under_way(self._asking_beside, self._ask_beside)

    # None of these is awaited: flow control may hold it back, and the silence has to be counted on.

    async def _ask_for_progress(self) -> None:
        # If it cannot be written, reading tells why.
        with contextlib.suppress(EtcdError):
            await self._stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    async def _ask_beside(self) -> None:
        create = self._create
        request = rpc.RangeRequest(key=create.key, range_end=create.range_end, limit=1, keys_only=True)
        with contextlib.suppress(EtcdError):
            answer = await self._session.call(self._session.kv.Range, request, _TURN_S * _TURNS_TO_ASK)
            self._silent_turns = 0
            if answer.header.revision < create.start_revision:
                self._catching_up_turns = 0
                self._on_contact()

    def close(self) -> None:
        """End the stream."""
        for task in (self._asking, self._asking_beside):
            if task is not None:
                task.cancel()
        self._stream.close()


def _unless_under_way(
    task: asyncio.Task[None] | None, ask: Callable[[], Coroutine[Any, Any, None]]
) -> asyncio.Task[None]:
    # The last question is not cancelled for the next one: that would cancel the stream.
    return task if task is not None and not task.done() else asyncio.create_task(ask())
