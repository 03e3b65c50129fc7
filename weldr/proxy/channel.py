"""The worker's end of the channel to the manager.

What can wait is not queued: only the newest of it is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from weldr.model.frames import (
    Applied,
    Beat,
    Downward,
    FrameError,
    FrameReader,
    InFlight,
    Loads,
    Silent,
    Sparing,
    Tallies,
    Upward,
    encode_frame,
)
from weldr.model.health import BackendKey
from weldr.proxy.flow import as_transport

logger = logging.getLogger(__name__)


class Channel(asyncio.Protocol):
    """Frames down, frames up."""

    def __init__(
        self,
        on_frame: Callable[[Downward], None],
        in_flight: Callable[[], list[tuple[str, str, int]]],
        sparing: Callable[[], Sparing],
        on_end: Callable[[bool], None],
    ) -> None:
        """`on_end` is called once, with whether it was the manager's end and not a broken frame."""
        self._on_frame = on_frame
        self._in_flight = in_flight
        self._sparing = sparing
        self._on_end = on_end
        self._reader: FrameReader[Downward] = FrameReader(Downward)
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._owes_in_flight = False
        self._owes_sparing = False
        self._told_loads = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = as_transport(transport)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._on_frame(frame)
        except FrameError as error:
            logger.error("the manager's frame cannot be read: draining", extra={"reason": str(error)})
            self._end(good=False)
        except Exception:
            # The table may be of neither the old nor the new revision: the next worker starts afresh.
            logger.exception("an update cannot be applied: draining")
            self._end(good=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(good=True)

    def _end(self, *, good: bool) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
            self._on_end(good)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._owes_in_flight:
            self.send_in_flight()
        if self._owes_sparing:
            self.send_sparing()

    def send_applied(self, revision: int) -> None:
        """Tell that this revision is in force: once for each update, so the manager bounds their number."""
        self._send(Applied(revision, self._in_flight()))

    def send_in_flight(self) -> None:
        """Tell that a backend without new requests has become idle."""
        self._owes_in_flight = not self._writable
        if self._writable:
            self._send(InFlight(self._in_flight()))

    def send_sparing(self) -> None:
        """Tell who is spared now."""
        self._owes_sparing = not self._writable
        if self._writable:
            self._send(self._sparing())

    def send_silent(self, backends: list[BackendKey]) -> None:
        """Tell who does not answer; not to a manager that does not read."""
        if self._writable:
            self._send(Silent(backends))

    def send_beat(self, beat: Beat) -> None:
        """Tell that the event loop is alive; not to a manager that does not read."""
        if self._writable:
            self._send(beat)

    def send_loads(self, loads: list[tuple[str, str, int]]) -> None:
        """Tell where requests are in flight; not to a manager that does not read."""
        if self._writable and (loads or self._told_loads):
            self._told_loads = bool(loads)
            self._send(Loads(loads))

    def send_tallies(self, take: Callable[[], Tallies]) -> None:
        """Send what `take` yields. For a manager that does not read nothing is taken, so nothing is lost."""
        if self._writable:
            frame = take()
            if frame.tallies or frame.incidents or frame.access_lines_dropped:
                self._send(frame)

    def _send(self, frame: Upward) -> None:
        if self._transport is not None:
            self._transport.write(encode_frame(frame))
