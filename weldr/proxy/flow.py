"""Flow control: who may not be read at the moment, how parts are written, how a connection is cut.

Memory stays bounded because nobody is read whose data has nowhere to go. A transport that holds more than
`HIGH_WATER_BYTES` unsent says so (`pause_writing`), and whoever feeds it is then not read until it has drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Final, cast

from weldr.proxy.outbox import Outbox

HIGH_WATER_BYTES = 64 * 1024
SMALL_BYTES = 32 * 1024
_ENDED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
"""What is told of a peer that has ended its side or is gone; not all systems tell the former."""
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Hold:
    """Reasons not to read a connection, as bits. Plain numbers: flags of `enum` cost a microsecond each."""

    PEER_FULL: Final = 1
    """The other side of the exchange does not take what it is sent."""
    NO_PEER: Final = 2
    """There is no connection yet to pass it on to."""
    TURN: Final = 4
    """What comes is for a later request."""
    ALL: Final = 7


class ReadGate:
    """Reads a transport only while there is no reason not to."""

    __slots__ = ("_transport", "held")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.held = 0

    def hold(self, reason: int) -> None:
        """Stop reading until `reason` is released."""
        if not self.held:
            self._transport.pause_reading()
        self.held |= reason

    def release(self, reason: int) -> None:
        """Read on, if there is no other reason not to."""
        if self.held & reason:
            self.held &= ~reason
            if not self.held and not self._transport.is_closing():
                self._transport.resume_reading()


def as_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """The transport by its real interface, which uvloop's have without inheriting it."""
    return cast(asyncio.Transport, transport)


def write_parts(
    outbox: Outbox, transport: asyncio.Transport, parts: list[bytes], *, small: bool = False
) -> None:
    """Write all parts: `small` ones joined, since each write has its price; large ones as they are."""
    if small or sum(map(len, parts)) <= SMALL_BYTES:
        outbox.put(transport, b"".join(parts))
    else:
        outbox.flush_of(transport)
        transport.writelines(parts)


def unread(transport: asyncio.Transport) -> Iterator[bytes]:
    """What has arrived on a transport that has failed, and was not delivered: at most `HIGH_WATER_BYTES`."""
    sock = transport.get_extra_info("socket")
    left = HIGH_WATER_BYTES
    with contextlib.suppress(OSError, ValueError):
        while left > 0 and (data := os.read(sock.fileno(), left)):
            left -= len(data)
            yield data


def has_ended(transport: asyncio.Transport) -> bool:
    """Whether the peer has ended its side or is gone, also where there is something unread before that."""
    sock = transport.get_extra_info("socket")
    poll = select.poll()
    try:
        poll.register(sock.fileno(), _ENDED)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True


def reset(transport: asyncio.Transport) -> None:
    """Close with a RST and nothing more: what was sent so far cannot be taken for all there was."""
    if transport.is_closing():
        transport.abort()
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
