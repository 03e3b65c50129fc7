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
    Tallies,
    encode_frame,
)
from weldr.proxy.flow import as_transport

logger = logging.getLogger(__name__)


class Channel(asyncio.Protocol):
    """Frames down, frames up."""

    def __init__(
        self,
        on_frame: Callable[[Downward], None],
        in_flight: Callable[[], list[tuple[str, str, int]]],
        on_end: Callable[[bool], None],
    ) -> None:
        """`on_end` is called once, with whether it was the manager's end and not a broken frame."""
        self._on_frame = on_frame
        self._in_flight = in_flight
        self._on_end = on_end
        self._reader: FrameReader[Downward] = FrameReader(Downward)
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._owes_in_flight = False

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

    def send_applied(self, revision: int) -> None:
        """Tell that this revision is in force: once for each update, so the manager bounds their number."""
        self._send(Applied(revision, self._in_flight()))

    def send_in_flight(self) -> None:
        """Tell that a backend without new requests has become idle."""
        self._owes_in_flight = not self._writable
        if self._writable:
            self._send(InFlight(self._in_flight()))

    def send_beat(self, beat: Beat) -> None:
        """Tell that the event loop is alive; not to a manager that does not read."""
        if self._writable:
            self._send(beat)

    def send_tallies(self, take: Callable[[], Tallies]) -> None:
        """Send what `take` yields. For a manager that does not read nothing is taken, so nothing is lost."""
        if self._writable:
            frame = take()
            if frame.tallies:
                self._send(frame)

    def _send(self, frame: Applied | InFlight | Beat | Tallies) -> None:
        if self._transport is not None:
            self._transport.write(encode_frame(frame))
