"""A client host that sends a numbered request every 5 ms, each on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from dataclasses import dataclass, field

from tests.hosts.namespaces import Host, enter

_INTERVAL_S = 0.005
_LIMIT_S = 2.5
"""Room for what a real client does: the first packet of a connection is sent again after a second."""


@dataclass
class Tally:
    """What became of the requests."""

    good: list[tuple[float, float]] = field(default_factory=list)
    """When each was sent and answered."""
    bad: list[float] = field(default_factory=list)
    """When each that failed was sent."""
    why: dict[float, str] = field(default_factory=dict)
    """How each of those failed, for people."""

    def outage_s(self, after_s: float = 0.0, until_s: float = 0.0) -> float:
        """The longest time without an answer to a new request; `until_s`: one that has not ended by then counts
        up to there."""
        answered = sorted([*(done for _, done in self.good), *([until_s] if until_s else [])])
        gaps = ((later - earlier, later) for earlier, later in itertools.pairwise(answered))
        return max((gap for gap, later in gaps if later > after_s), default=0.0)

    def lost(self, after_s: float = 0.0) -> int:
        """How many failed."""
        return sum(sent > after_s for sent in self.bad)


class Client:
    """A thread with an event loop in the client's namespace."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.tally = Tally()
        self._host, self._address, self._port = host, address, port
        self._stopped = False
        self._pending: dict[int, float] = {}
        """When each that is under way was sent, by its number."""
        self._thread = threading.Thread(target=self._run, name="client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        enter(self._host.namespace)
        asyncio.run(self._send_all())

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        running: set[asyncio.Task[None]] = set()
        number = 0
        while not self._stopped:
            if len(running) < 1000:
                number += 1
                task = asyncio.create_task(self._send(number))
                running.add(task)
                task.add_done_callback(running.discard)
            due_s = max(due_s + _INTERVAL_S, loop.time())
            await asyncio.sleep(due_s - loop.time())
        await asyncio.gather(*running)

    async def _send(self, number: int) -> None:
        self._pending[number] = sent_s = time.monotonic()
        writer: asyncio.StreamWriter | None = None
        why = ""
        try:
            async with asyncio.timeout(_LIMIT_S):
                reader, writer = await asyncio.open_connection(self._address, self._port)
                writer.write(f"GET /{number} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read()
            good = answer.startswith(b"HTTP/1.1 200") and answer.endswith(f"/{number}".encode())
            why = "" if good else repr(answer[:200])
        except (OSError, TimeoutError) as error:
            good, why = False, f"{'before' if writer is None else 'after'} the connection was there: {error!r}"
        finally:
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        if good:
            self.tally.good.append((sent_s, time.monotonic()))
        else:
            self.tally.bad.append(sent_s)
            self.tally.why[sent_s] = f"{why} ({time.monotonic() - sent_s:.3f} s later)"
        del self._pending[number]

    def wait_good(self, limit_s: float = 15.0) -> None:
        """Wait until a request that is sent from now on is answered."""
        began_s = time.monotonic()
        while time.monotonic() < began_s + limit_s:
            if self.tally.good and self.tally.good[-1][0] > began_s:
                return
            time.sleep(0.005)
        raise AssertionError("no request is answered")

    def wait_decided(self) -> None:
        """Wait until it is known what became of all requests up to now: some may yet fail by their limit."""
        now_s = time.monotonic()
        while time.monotonic() < now_s + 2 * _LIMIT_S:
            if all(sent_s > now_s for sent_s in list(self._pending.values())):
                return
            time.sleep(0.01)
        raise AssertionError("a request has neither been answered nor failed")

    def close(self) -> None:
        self._stopped = True
        self._thread.join(10)
