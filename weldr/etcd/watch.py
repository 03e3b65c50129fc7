"""One watch on one stream, for as long as it lives.

A stream that is silent may be quiet or dead: the member frozen, the host gone without a word, or etcd stuck. So
a quiet stream is asked for its progress every 1.5 s, and one that stays silent for 4 s is given up. That is
counted in turns of waiting and not by a clock: if this process was stopped for a minute, one turn has passed
and what arrived meanwhile is read before the next. The answers to those questions are signs of life and nothing
else: servers before 3.5.8 and 3.4.25 send them ahead of events that belong before them.

A watch can be alive and deliver nothing. Who writes below the watched prefix says at which revision
(`expected`); if it does not arrive within 3 s, the stream is given up, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
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
from weldr.etcd.session import Session, Stream
from weldr.model.events import Revision

_TURN_S = 0.5
_TURNS_TO_ASK = 3
_TURNS_TO_DEATH = 8
_TURNS_TO_EXPECT = 6


async def watch(
    session: Session,
    prefix: bytes,
    start_revision: int,
    *,
    expected: Callable[[], int] = lambda: 0,
    on_contact: Callable[[], None] = lambda: None,
) -> AsyncGenerator[list[Revision], None]:
    """The changes below `prefix` from `start_revision` on, as they arrive: whole revisions, none twice.

    `on_contact` is called for everything that arrives, and first when etcd has taken the watch.

    Raises `EtcdCompactedError`, `EtcdUnavailableError` and `EtcdAuthError`; it never ends otherwise.
    """
    stream = session.stream(session.watch.Watch)
    reader = _LivelyReader(stream, str(session.endpoint))
    try:
        await stream.write(_create_request(prefix, start_revision))
        assembler = RevisionAssembler(start_revision - 1)
        while True:
            message = await reader.read(lambda: assembler.revision < expected())
            _raise_if_canceled(message, str(session.endpoint))
            on_contact()
            events = (event_of(event) for event in message.events)
            revisions = assembler.feed(events, more_fragments=message.fragment)
            if revisions:
                yield revisions
    finally:
        reader.close()
        stream.close()


def _create_request(prefix: bytes, start_revision: int) -> Any:
    create = rpc.WatchCreateRequest(
        key=prefix or b"\0",
        range_end=prefix_end(prefix),
        # One too early; what comes of it is left out. From 3.5.8 on a watch that begins in the future, as it does
        # behind a fresh snapshot, gets no progress answers, and could not be told from a dead one.
        start_revision=max(1, start_revision - 1),
        fragment=True,
    )
    return rpc.WatchRequest(create_request=create)


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
    """Reads a stream's messages and finds out when nothing will come any more."""

    def __init__(self, stream: Stream, endpoint: str) -> None:
        self._stream = stream
        self._endpoint = endpoint
        self._late_turns = 0
        self._asking: asyncio.Task[None] | None = None

    async def read(self, late: Callable[[], bool]) -> Any:
        """The next message. `late` tells whether a revision is missing that should have come.

        Raises `EtcdUnavailableError`.
        """
        # One read outlives many turns: to cancel it would end the stream.
        reading = asyncio.ensure_future(self._stream.read())
        try:
            silent_turns = 0
            while not (await asyncio.wait({reading}, timeout=_TURN_S))[0]:
                silent_turns += 1
                self._check(silent_turns, late())
                if silent_turns % _TURNS_TO_ASK == 0:
                    self._ask()
            message = reading.result()
        finally:
            reading.cancel()
        if message is None:
            raise EtcdUnavailableError("the watch ended", endpoint=self._endpoint)
        if message.events:
            self._late_turns = 0
        return message

    def _check(self, silent_turns: int, late: bool) -> None:
        self._late_turns = self._late_turns + 1 if late else 0
        if silent_turns >= _TURNS_TO_DEATH:
            raise EtcdTimeoutError("the watch is silent: frozen or cut off", endpoint=self._endpoint)
        if self._late_turns >= _TURNS_TO_EXPECT:
            raise EtcdTimeoutError("the watch does not deliver what was written", endpoint=self._endpoint)

    def _ask(self) -> None:
        # Not awaited: flow control may hold it back, and the silence has to be counted on.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._write_question())

    async def _write_question(self) -> None:
        # If it cannot be written, reading tells why.
        with contextlib.suppress(EtcdError):
            await self._stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest()))

    def close(self) -> None:
        """To be called when the stream is closed."""
        if self._asking is not None:
            self._asking.cancel()
