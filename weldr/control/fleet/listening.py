"""Hears the numbers of the other instances, while this one is looked at.

The port is open only then. Whoever connects and does not at once prove that it has the key is let go, and there
are never more connections than instances may have.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from weldr.control.accepting import Accepting
from weldr.control.fleet.samples import (
    DIGEST_BYTES,
    KEY_BYTES,
    LENGTH_BYTES,
    MOST_FRAME_BYTES,
    NONCE_BYTES,
    Hello,
    Sample,
    SampleError,
    unseal,
)
from weldr.control.own_address import own_address
from weldr.model.log_limit import LogLimit

logger = logging.getLogger(__name__)

Message = TypeVar("Message")

PORT = 8688
_MOST_CONNECTIONS = 256
_HELLO_S = 5.0
_SILENCE_S = 15.0


class Listening:
    """The port, and the connections to it. `on_sample` is told who said what, `on_gone` who says no more."""

    def __init__(self, on_sample: Callable[[str, Sample], None], on_gone: Callable[[str], None]) -> None:
        self.address = ""
        """`host:port`; empty while it is closed."""
        self.key = b""
        self._on_sample = on_sample
        self._on_gone = on_gone
        self._accepting: Accepting | None = None
        self._connections = 0
        self._told: dict[str, asyncio.StreamWriter] = {}
        self._log_limit = LogLimit()

    async def open(self, towards: Iterable[tuple[str, int]]) -> None:
        """Open the port, on the address that leads to those.

        Raises `OSError`.
        """
        own = await own_address(towards)
        self.key = secrets.token_bytes(KEY_BYTES)
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        try:
            listener = socket.create_server((own, PORT), family=family)
        except OSError:
            listener = socket.create_server((own, 0), family=family)
        port = listener.getsockname()[1]
        self._accepting = Accepting.streams(listener, self._serve, 64 * 1024)
        self.address = f"[{own}]:{port}" if ":" in own else f"{own}:{port}"

    async def close(self) -> None:
        """Close the port and all connections."""
        self.address = ""
        if self._accepting is not None:
            self._accepting.close()
            self._accepting = None
        for writer in list(self._told.values()):
            writer.transport.abort()
        self._told.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _MOST_CONNECTIONS or not self.address:
            writer.transport.abort()
            return
        self._connections += 1
        name = None
        try:
            nonce = secrets.token_bytes(NONCE_BYTES)
            writer.write(nonce)
            name = await self._hello(reader, nonce)
            before = self._told.pop(name, None)
            if before is not None:
                before.transport.abort()
            self._told[name] = writer
            number = 1
            while self._told.get(name) is writer:
                self._on_sample(name, await self._next(reader, nonce, number, Sample, _SILENCE_S))
                number += 1
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        except (SampleError, msgspec.DecodeError) as error:
            self._warn(str(writer.get_extra_info("peername")), str(error))
        finally:
            self._connections -= 1
            writer.transport.abort()
            if name is not None and self._told.get(name) is writer:
                del self._told[name]
                self._on_gone(name)

    def _warn(self, sender: str, reason: str) -> None:
        # Whoever reaches the port could fill the log.
        if self._log_limit.allows("", asyncio.get_running_loop().time()):
            extra = {"from": sender, "reason": reason, **self._log_limit.suppressed()}
            logger.warning("what came as an instance's numbers is none", extra=extra)

    async def _hello(self, reader: asyncio.StreamReader, nonce: bytes) -> str:
        return (await self._next(reader, nonce, 0, Hello, _HELLO_S)).instance

    async def _next(
        self, reader: asyncio.StreamReader, nonce: bytes, number: int, into: type[Message], limit_s: float
    ) -> Message:
        async with asyncio.timeout(limit_s):
            length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
            # Nobody who has not said who it is may have us keep much.
            if not DIGEST_BYTES < length <= (MOST_FRAME_BYTES if number else 4096):
                raise SampleError(f"a frame of {length} bytes")
            frame = await reader.readexactly(length)
        return msgspec.msgpack.decode(unseal(self.key, nonce, number, frame), type=into)
