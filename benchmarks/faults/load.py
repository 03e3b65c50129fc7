"""A steady load on several proxies at once: an open loop, in which no slow answer holds back the next
request."""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass, field

REQUEST_LIMIT_S = 10.0
"""After which a client gives up."""
_IDLE_LIMIT_S = 30.0
"""After which a connection is not used again: sooner than any of the proxies closes it, since a request that
meets that moment fails by nobody's fault."""
_REQUEST = b"GET /load HTTP/1.1\r\nHost: bench\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one request. `status` is 0 if there was no whole answer in time."""

    due_s: float
    took_s: float
    status: int


@dataclass
class SteadyLoad:
    """Requests that become due at random moments, the same for each proxy."""

    port: int
    rate: float
    outcomes: list[Outcome] = field(default_factory=list)
    _free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = field(default_factory=list)
    """Open connections, and when they were last used: the latest at the end."""
    _requests: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Until it is cancelled."""
        gaps = random.Random(1)
        due_s = time.monotonic()
        while True:
            due_s += gaps.expovariate(self.rate)
            await asyncio.sleep(due_s - time.monotonic())
            task = asyncio.create_task(self._request(due_s))
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)

    async def finish(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._requests)
        for _, writer, _ in self._free:
            writer.close()

    async def _request(self, due_s: float) -> None:
        status = 0
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + REQUEST_LIMIT_S):
                reader, writer = self._kept() or await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(_REQUEST)
                status, kept = await _answer(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            kept = False
        if writer is not None:
            if kept:
                self._free.append((reader, writer, time.monotonic()))
            else:
                writer.transport.abort()
        self.outcomes.append(Outcome(due_s, time.monotonic() - due_s, status))

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._free:
            reader, writer, used_s = self._free.pop()
            if time.monotonic() - used_s > _IDLE_LIMIT_S:
                writer.close()
            elif not writer.is_closing():
                return reader, writer
        return None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """The status, and whether the connection goes on."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(b" ", 2)[1]), length is not None and b"connection: close" not in head.lower()
