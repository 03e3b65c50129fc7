"""Tells this instance's numbers to every instance that is looked at.

Whom to tell follows from the keys `viewers/`: each has a connection for as long as its key is there. One that
cannot be reached is tried again, and one that does not read is told less, never later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from weldr.control.fleet.recent import Recent
from weldr.control.fleet.samples import KEY_BYTES, MOST_FRAME_BYTES, NONCE_BYTES, Hello, Sample, seal

logger = logging.getLogger(__name__)

MOST_VIEWERS = 64
_MOST_PORT = 65_535
_CONNECT_S = 3.0
_WRITE_S = 5.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_MOST_PAST_BYTES = 4 * MOST_FRAME_BYTES


class Viewer(msgspec.Struct, frozen=True):
    """The value of `viewers/<instance>`."""

    address: str
    """`host:port`, TCP."""
    key: str
    """Secret, in hexadecimal."""

    def __repr__(self) -> str:
        return f"Viewer({self.address})"


def viewer_of(raw: bytes) -> Viewer | None:
    """`None` for a value that is none."""
    try:
        found = msgspec.json.decode(raw, type=Viewer)
        host, _, port = found.address.rpartition(":")
        is_good = len(bytes.fromhex(found.key)) == KEY_BYTES and host and 0 < int(port) <= _MOST_PORT
        return found if is_good else None
    except (msgspec.DecodeError, ValueError):
        return None


class Telling:
    """Owner of the connections to the viewers."""

    def __init__(self, instance: str, recent: Recent, now: Callable[[], Sample]) -> None:
        """`now` makes the newest sample, for one who has just come."""
        self._instance = instance
        self._recent = recent
        self._now = now
        self._running: dict[str, tuple[Viewer, asyncio.Task[None]]] = {}
        self._slot_over = asyncio.Condition()
        self._sample: Sample | None = None

    @property
    def is_asked(self) -> bool:
        """Whether anybody is looked at."""
        return bool(self._running)

    def follow(self, viewers: Mapping[str, Viewer]) -> None:
        """These are looked at, by instance."""
        wanted = {name: viewer for name, viewer in viewers.items() if name != self._instance}
        for name, (viewer, task) in list(self._running.items()):
            if wanted.get(name) != viewer:
                task.cancel()
                del self._running[name]
        for name in sorted(wanted)[:MOST_VIEWERS]:
            if name not in self._running:
                task = asyncio.create_task(self._keep_telling(name, wanted[name]), name=f"numbers-{name}")
                self._running[name] = wanted[name], task

    async def tell(self, sample: Sample) -> None:
        """A slot is over."""
        async with self._slot_over:
            self._sample = sample
            self._slot_over.notify_all()

    async def close(self) -> None:
        """Tell nobody any more."""
        tasks = [task for _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_telling(self, name: str, viewer: Viewer) -> None:
        pause_s, told = _FIRST_PAUSE_S, ""
        while True:
            try:
                await self._tell(viewer)
                pause_s = _FIRST_PAUSE_S
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                reason = str(error) or "it does not answer in time"
                if reason != told:
                    told = reason
                    extra = {"instance": name, "address": viewer.address, "reason": reason}
                    logger.info("an instance that is looked at cannot be told our numbers", extra=extra)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _tell(self, viewer: Viewer) -> None:
        """One connection, until the other end closes it."""
        host, _, port = viewer.address.rpartition(":")
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            nonce = await reader.readexactly(NONCE_BYTES)
        try:
            line = _Line(writer, bytes.fromhex(viewer.key), nonce)
            await line.send(Hello(self._instance))
            await self._tell_samples(line)
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_WRITE_S):
                    await writer.wait_closed()

    async def _tell_samples(self, line: _Line) -> None:
        last = self._sample
        await line.send(self._now())
        await line.send(_within(reversed(self._recent.samples), _MOST_PAST_BYTES))
        while True:
            async with self._slot_over:
                while self._sample is last or self._sample is None:
                    await self._slot_over.wait()
                last = self._sample
            await line.send(last)


def _within(samples: Iterable[Sample], size_bytes: int) -> list[Sample]:
    """As many of them as take this much at most, roughly."""
    found = []
    for sample in samples:
        size_bytes -= 40 + sum(40 + 8 * len(counts.latency) for counts in sample.services.values())
        if size_bytes < 0:
            break
        found.append(sample)
    return found


class _Line:
    """Frames to one viewer. The next one is not made before the last is on its way."""

    def __init__(self, writer: asyncio.StreamWriter, key: bytes, nonce: bytes) -> None:
        self._writer = writer
        self._key = key
        self._nonce = nonce
        self._number = 0
        writer.transport.set_write_buffer_limits(high=0)

    async def send(self, message: Hello | Sample | list[Sample]) -> None:
        """One frame, or several for a list. Raises `OSError` and `TimeoutError`."""
        for part in message if isinstance(message, list) else [message]:
            body = msgspec.msgpack.encode(part)
            if len(body) > MOST_FRAME_BYTES // 2:
                continue
            self._writer.write(seal(self._key, self._nonce, self._number, body))
            self._number += 1
            async with asyncio.timeout(_WRITE_S):
                await self._writer.drain()
