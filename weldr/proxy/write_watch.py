"""Noticing a peer that does not read what it is sent.

A deadline runs while something waits to be sent. When it passes, what counts is whether the peer has taken
anything since: then it is only slow and gets as long again. The kernel's queue counts too, since it tells us
that there is room again only when a good part of it is free, which with a slow peer can take minutes.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import sys
import termios

from weldr.proxy.deadlines import NEVER


class WriteWatch:
    """The watch over one transport."""

    __slots__ = ("_transport", "_unsent_bytes", "deadline_s")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unsent_bytes = 0
        self.deadline_s = NEVER

    def begin(self, deadline_s: float) -> None:
        """Something waits to be sent."""
        self.deadline_s = deadline_s
        self._unsent_bytes = unsent_bytes(self._transport)

    def begin_last(self, deadline_s: float) -> None:
        """The connection is closed once all is sent.

        That is nearly always at once, so that asking the kernel now would not pay. A peer that takes nothing
        has twice as long.
        """
        self.deadline_s = deadline_s
        self._unsent_bytes = sys.maxsize

    def end(self) -> None:
        """Nothing does any more."""
        self.deadline_s = NEVER

    def has_progressed(self, next_deadline_s: float) -> bool:
        """Whether the peer has taken something since `begin` or the last call. Sets the next deadline."""
        before, now = self._unsent_bytes, unsent_bytes(self._transport)
        self._unsent_bytes = now
        self.deadline_s = next_deadline_s
        return now < before


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What the peer has not acknowledged, as far as the system tells."""
    waiting: int = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    try:
        # SIOCOUTQ, by its other name.
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (OSError, ValueError):
        return waiting
    return waiting + int(struct.unpack("i", queued)[0])
