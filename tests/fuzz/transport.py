"""A transport in memory that keeps the rules of the real ones, uvloop's where they are stricter than asyncio's.

What is written is buffered and reaches the peer at the loop's next turn, unless the peer does not read; more
than the limit in the buffer pauses the protocol. Closing sends the rest first, aborting drops it, and
`connection_lost` comes later and not from within either. Writing after `write_eof`, and touching a transport
whose end has been reported, is an error.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from enum import Enum
from typing import Any, cast


class End(Enum):
    """How the peer sees that nothing more comes."""

    OPEN = "open"
    FIN = "fin"
    RST = "rst"


class _Socket:
    """What remains of a socket: whether a close would be a reset. No descriptor, so the kernel has no queue."""

    def __init__(self) -> None:
        self.resets = False

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.resets = True

    def fileno(self) -> int:
        return -1


class MemoryTransport(asyncio.Transport):
    """weldr's end of a connection, and the peer's view of it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.Protocol,
        *,
        peer: tuple[str, int],
        local: tuple[str, int],
        limit: int,
    ) -> None:
        """`limit` is how much is buffered before the protocol is paused, whatever it asks for."""
        self._socket = _Socket()
        super().__init__({"peername": peer, "sockname": local, "socket": self._socket})
        self._loop = loop
        self._protocol: Any = protocol
        self._limit = limit
        self._buffer = bytearray()
        self._flushing = False
        self._paused_protocol = False
        self._reading = True
        self._eof_written = False
        self._eof_read = False
        self._closing = False
        self._lost_scheduled = False
        self.lost = False
        """Whether the protocol was told of the end."""
        self.received = bytearray()
        """What has reached the peer."""
        self.end = End.OPEN
        """How the peer saw the end of it."""
        self.peer_reads = True
        self.on_written: Callable[[bytes], None] = lambda data: None
        """Is told what weldr writes, at the moment of it."""
        self.errors: list[BaseException] = []
        """Exceptions that the protocol let out."""
        self._call(protocol.connection_made, self)

    # For the peer.

    @property
    def takes(self) -> bool:
        """Whether weldr reads at the moment."""
        return self._reading and not (self._closing or self._eof_read)

    def deliver(self, data: bytes) -> None:
        """The peer's data arrives."""
        assert self.takes
        self._call(self._protocol.data_received, data)

    def deliver_eof(self) -> None:
        """The peer has shut its side."""
        assert self.takes
        self._eof_read = True
        self._reading = False
        if not self._call(self._protocol.eof_received):
            self.close()

    def deliver_reset(self) -> None:
        """The peer has cut the connection."""
        self._force_close(ConnectionResetError())

    def set_peer_reads(self, reads: bool) -> None:
        """Let the peer read, or not."""
        self.peer_reads = reads
        if reads and self._buffer:
            self._flush_soon()

    # For weldr.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._check_alive()
        if self._eof_written:
            raise RuntimeError("write() after write_eof()")
        if not data or self._lost_scheduled:
            return
        self._buffer += data
        self.on_written(bytes(data))
        if self.peer_reads:
            self._flush_soon()
        self._maybe_pause()

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        self._check_alive()
        if self._eof_written:
            return
        self._eof_written = True
        if not self._buffer and self.end is End.OPEN:
            self.end = End.FIN

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if not self._buffer:
            self._schedule_lost(None)

    def abort(self) -> None:
        self._force_close(None)

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if not self._closing:
            self._reading = False

    def resume_reading(self) -> None:
        if not (self._closing or self._eof_read):
            self._reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._check_alive()

    # Inside.

    def _check_alive(self) -> None:
        if self.lost:
            raise RuntimeError("the transport is closed and its protocol has been told")

    def _force_close(self, error: Exception | None) -> None:
        if self._lost_scheduled:
            return
        self._closing = True
        self._reading = False
        self._buffer.clear()
        self._schedule_lost(error)

    def _schedule_lost(self, error: Exception | None) -> None:
        self._lost_scheduled = True
        if self.end is End.OPEN:
            self.end = End.RST if self._socket.resets else End.FIN
        self._loop.call_soon(self._report_lost, error)

    def _report_lost(self, error: Exception | None) -> None:
        self._call(self._protocol.connection_lost, error)
        self.lost = True

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self.peer_reads or not self._buffer:
            return
        data = bytes(self._buffer)
        self._buffer.clear()
        self.received += data
        if self._paused_protocol:
            self._paused_protocol = False
            self._call(self._protocol.resume_writing)
        if self._buffer:
            return
        if self._closing and not self._lost_scheduled:
            self._schedule_lost(None)
        elif self._eof_written and self.end is End.OPEN:
            self.end = End.FIN

    def _maybe_pause(self) -> None:
        if len(self._buffer) > self._limit and not self._paused_protocol:
            self._paused_protocol = True
            self._call(self._protocol.pause_writing)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except Exception as error:
            self.errors.append(error)
            self._force_close(error)
            return None
