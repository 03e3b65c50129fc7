"""The manager's end of a worker's channel: frames from the worker, and its updates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from weldr.model.frames import FrameError, FrameReader, Upward

logger = logging.getLogger(__name__)


class WorkerChannel(asyncio.Protocol):
    """The manager's end of the socket pair. Writes are bounded: while the worker does not read, nothing is."""

    def __init__(self, on_frame: Callable[[Upward], None], on_writable: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_writable = on_writable
        self._reader: FrameReader[Upward] = FrameReader(Upward)
        self._transport: asyncio.Transport | None = None
        self.writable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except FrameError as error:
            logger.error("a worker's channel is broken", extra={"reason": str(error)})
            self.close()
            return
        for frame in frames:
            self._on_frame(frame)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.writable = False
        self._transport = None

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
