"""The socket pair between two managers, with typed frames. Nothing on it waits without a limit."""

from __future__ import annotations

import asyncio
import socket
from typing import Generic, TypeVar

import msgspec

from weldr.model.frames import FrameError, FrameReader, encode_frame

Received = TypeVar("Received")
_READ_BYTES = 1 << 16
_SEND_LIMIT_S = 10.0


class LinkEndedError(Exception):
    """The other manager is gone, or sent what cannot be read; one line."""


class Link(Generic[Received]):
    """One end. `receives` is the union of the frames that come."""

    def __init__(self, sock: socket.socket, receives: object) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._frames: FrameReader[Received] = FrameReader(receives)
        self._waiting: list[Received] = []

    async def send(self, frame: msgspec.Struct) -> None:
        """Send. That nobody reads what fits into the socket is found out by whoever waits for an answer.

        Raises `LinkEndedError`.
        """
        try:
            async with asyncio.timeout(_SEND_LIMIT_S):
                await asyncio.get_running_loop().sock_sendall(self._sock, encode_frame(frame))
        except TimeoutError:
            raise LinkEndedError("the other manager does not read what it is sent") from None
        except OSError as error:
            raise LinkEndedError(f"the other manager is gone: {error.strerror or error}") from None

    async def receive(self) -> Received:
        """The next frame.

        Raises `LinkEndedError`.
        """
        while not self._waiting:
            try:
                data = await asyncio.get_running_loop().sock_recv(self._sock, _READ_BYTES)
                self._waiting += self._frames.feed(data)
            except OSError as error:
                raise LinkEndedError(f"the other manager is gone: {error.strerror or error}") from None
            except FrameError as error:
                raise LinkEndedError(f"the other manager cannot be understood: {error}") from None
            if not data:
                raise LinkEndedError("the other manager is gone")
        return self._waiting.pop(0)

    def close(self) -> None:
        """End it."""
        self._sock.close()
