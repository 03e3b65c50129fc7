"""Event streams: `GET /api/v1/events`.

One task writes to all streams, in rounds: each round brings every stream all that it has not had, so a burst of
changes costs a round and not one each. A round gives way to the event loop after every few streams, and the
next waits ten times as long as the last took: so however many streams there are, they take a tenth of the
manager's time and hold nothing up.

Whoever does not read is dropped when a bounded amount waits for it, or when too much waits for all together and
the most of it for this one. It comes back and resumes from its last id; one that is too far behind for that is
told to read all keys again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus

from aiohttp import HttpVersion11, web

from weldr.control.admin.endpoint import Call, Endpoint, Parameter
from weldr.control.admin.event_log import ID_PATTERN, EventLog, event, id_of, note, place_of
from weldr.control.admin.mirror import Mirror, News
from weldr.control.admin.problem import ProblemError

logger = logging.getLogger(__name__)

MOST_WAITING_BYTES = 1024 * 1024
"""Of one stream, beyond what the kernel takes."""
MOST_WAITING_TOGETHER_BYTES = 128 * 1024 * 1024
"""Of all streams. It leaves room for other answers, see `ConnectionLimits.unread_bytes`."""
_MOST_AT_A_TIME_BYTES = MOST_WAITING_BYTES // 2
_AT_ONCE = 5
_PAUSE_OF_ROUND = 10.0
_LONGEST_PAUSE_S = 0.25
_PING_S = 10.0
_PING = b": still here\n\n"
_FUTURE_LIMIT_S = 2.0

SINCE = Parameter(
    "since",
    "Begin behind this revision; as `Last-Event-ID` does, which browsers send.",
    {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    "The last id that was received.",
    {"type": "string", "pattern": ID_PATTERN},
    "header",
)


class _Stream:
    """One client. Its chunks are framed here and written past aiohttp, which would take a task's turn."""

    def __init__(self, transport: asyncio.Transport, number: int, *, chunked: bool) -> None:
        self.number = number
        """The last event of the log that it was sent."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._chunked = chunked

    @property
    def waiting_bytes(self) -> int:
        """What it has not read yet, beyond what the kernel takes."""
        return self._transport.get_write_buffer_size()

    def send(self, text: bytes) -> bool:
        """Write; whether it is still there and reads."""
        if self._transport.is_closing():
            return False
        self._transport.write(b"%x\r\n%b\r\n" % (len(text), text) if self._chunked else text)
        return self.waiting_bytes <= MOST_WAITING_BYTES

    def end(self) -> None:
        """Have it end in order, behind what it was sent."""
        if not self.over.done():
            self.over.set_result(None)

    def drop(self) -> None:
        """End it at once."""
        self.end()
        self._transport.abort()


class EventStreams:
    """Owner of the log and of all streams."""

    def __init__(
        self, mirror: Mirror, instance: str, most: int, *, together_bytes: int = MOST_WAITING_TOGETHER_BYTES
    ) -> None:
        """`most` streams at a time, for which at most `together_bytes` wait."""
        self._most = most
        self._together_bytes = together_bytes
        self._opening = 0
        self.log = EventLog()
        self._mirror = mirror
        self._instance = instance
        self._streams: set[_Stream] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._send_all(), name="event-streams")

    async def close(self) -> None:
        """End every stream."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for stream in self._streams:
            stream.end()

    def drop_all(self) -> None:
        """End every stream at once: whoever may still read comes back, and resumes."""
        for stream in list(self._streams):
            self._drop(stream)

    def begin(self) -> None:
        """The keys are known for the first time."""
        self.log.begin(self._mirror.revision, self._mirror.state)

    def take(self, news: News) -> None:
        """Note what happened, for all streams."""
        note(self.log, news, self._mirror.revision, self._mirror.state)
        self._wake.set()

    def tell(self, kind: str, data: object) -> None:
        """Note something that is no change of a key."""
        self.log.add(self._mirror.revision, event(kind, data))
        self._wake.set()

    def endpoints(self) -> list[Endpoint]:
        """The one that there is."""
        return [
            Endpoint(
                "GET",
                "/api/v1/events",
                "events",
                "Every change as it happens, as server-sent events, resumable by revision",
                self._serve,
                {200: {"type": "string"}},
                (SINCE, LAST_EVENT_ID),
                answer_type="text/event-stream",
            )
        ]

    async def _serve(self, call: Call) -> web.StreamResponse:
        since, state = self._since(call)
        if not self._mirror.revision:
            raise _not_now("no keys could be read from etcd yet")
        if len(self._streams) + self._opening >= self._most:
            raise _not_now(f"there are {self._most} event streams already")
        if since is not None and since > self._mirror.revision:
            # Seen at another instance, which is a moment ahead.
            self._opening += 1
            try:
                await self._mirror.reached(since, _FUTURE_LIMIT_S)
            finally:
                self._opening -= 1
        if self._waiting_bytes() > self._together_bytes:
            raise _not_now("clients leave too much of their event streams unread")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        chunked = call.request.version >= HttpVersion11
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.force_close()
        try:
            await response.prepare(call.request)
        except ConnectionError:
            return response  # the client has gone meanwhile, and nothing is amiss
        transport = call.request.transport
        if transport is None:
            return response
        first, number = self._first(since, state), self.log.last_number
        stream = _Stream(transport, number, chunked=chunked)
        self._streams.add(stream)
        try:
            await response.write(first)
            if self.log.last_number != number:
                self._wake.set()
            await stream.over
        except ConnectionError:
            pass
        finally:
            self._streams.discard(stream)
        return response

    @staticmethod
    def _since(call: Call) -> tuple[int | None, int | None]:
        """The revision to begin behind, and the state of all keys at it, as far as the client knows."""
        last = call.header(LAST_EVENT_ID.name)
        since = call.number(SINCE.name)
        if last is None:
            return since, None
        place = place_of(last)
        if place is None:
            detail = f"Last-Event-ID is {last[:40]!r}: expected the id of an event, or a revision"
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail)
        return place

    def _first(self, since: int | None, state: int | None) -> bytes:
        """How a stream begins: with what it has missed, if that is still known."""
        revision = self._mirror.revision
        hello = {"instance": self._instance, "revision": revision}
        if since is None:
            return event("hello", hello, self._id)
        missed = self.log.since_revision(since, state) if since <= revision else None
        if missed is None:
            return event("hello", hello) + self._reset(f"not all events since revision {since} are kept")
        if len(missed) > _MOST_AT_A_TIME_BYTES:
            return event("hello", hello) + self._reset(f"too much has changed since revision {since}")
        return event("hello", hello) + missed

    def _reset(self, reason: str) -> bytes:
        return event("reset", {"revision": self._mirror.revision, "reason": reason}, self._id)

    @property
    def _id(self) -> bytes:
        return id_of(self._mirror.revision, self._mirror.state)

    def _waiting_bytes(self) -> int:
        return sum(stream.waiting_bytes for stream in self._streams)

    def _make_room(self, waiting_bytes: int) -> int:
        """Drop those for which the most waits, if it is too much together; how much waits then."""
        if waiting_bytes > self._together_bytes:
            # What was counted before others had their turn may have been read since.
            waiting_bytes = self._waiting_bytes()
        while waiting_bytes > self._together_bytes:
            slowest = max(self._streams, key=lambda stream: stream.waiting_bytes)
            waiting_bytes -= slowest.waiting_bytes
            self._drop(slowest)
        return waiting_bytes

    def _drop(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        stream.drop()

    async def _send_all(self) -> None:
        """Rounds, one after the other, for good."""
        ping_at_s = time.monotonic() + _PING_S
        while True:
            try:
                # Not `wait_for`: up to Python 3.11 it loses a cancellation that comes with the event.
                async with asyncio.timeout(max(0.0, ping_at_s - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                await self._round(_PING)
                ping_at_s = time.monotonic() + _PING_S
                continue
            self._wake.clear()
            began_s = time.monotonic()
            await self._round(b"")
            took_s = time.monotonic() - began_s
            await asyncio.sleep(min(took_s * _PAUSE_OF_ROUND, _LONGEST_PAUSE_S))

    async def _round(self, otherwise: bytes) -> None:
        """Bring every stream up to date; `otherwise` is sent to those that are."""
        target = self.log.last_number
        texts: dict[int, bytes] = {target: otherwise}
        waiting_bytes = self._make_room(self._waiting_bytes())
        for index, stream in enumerate(list(self._streams), 1):
            if stream not in self._streams:
                continue
            if stream.number not in texts:
                texts[stream.number] = self._missed(stream.number, target)
            text = texts[stream.number]
            before_bytes = stream.waiting_bytes
            if text and not stream.send(text):
                self._drop(stream)
            stream.number = target
            waiting_bytes = self._make_room(waiting_bytes + stream.waiting_bytes - before_bytes)
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _missed(self, number: int, target: int) -> bytes:
        """The events behind `number` up to `target`, or that they are too many."""
        text = self.log.between(number, target)
        if text is None or len(text) > _MOST_AT_A_TIME_BYTES:
            return self._reset("too much changed at once")
        return text


def _not_now(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
