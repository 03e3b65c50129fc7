"""Load at a set rate, for latencies that mean something: an open loop.

wrk knows no rate, and a loop that sends only once the last answer is there does not count the requests that a
slow proxy kept from being sent. Here requests become due at random moments (a Poisson process, the same one for
each proxy), and each latency runs from when the request was due to the last byte of its answer, its wait for a
free connection included. Every answer is compared with the origin's.
"""

from __future__ import annotations

import collections
import random
import re
import select
import socket
import time
from dataclasses import dataclass, field

from benchmarks.peers.exact import WrongAnswerError
from benchmarks.peers.works import MARK, Work

# After the end, for what is under way.
_GRACE_S = 1.0
_KEPT_UP = 0.95
_LONGEST_WAIT_S = 0.05
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200"


@dataclass
class PacedLoad:
    """What came of it: how many were due, how many of them were answered by the end, and after how long."""

    due: int
    answered: int = 0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def kept_up(self) -> bool:
        """If not, the queue grows for as long as the load lasts, and latencies tell only how long that was."""
        return self.answered >= _KEPT_UP * self.due


class _Connection:
    """One request at a time."""

    def __init__(self, port: int, work: Work, epoll: select.epoll, buffer: bytearray) -> None:
        self._port = port
        self._work = work
        self._epoll = epoll
        self._buffer = buffer
        self._answer = bytearray()
        self._answer_bytes = 0
        self._head_bytes = 0
        self._socket: socket.socket | None = None
        self.due_s = 0.0

    def send(self, request: bytes, due_s: float) -> int:
        """Send it; return the file number that its answer will come on."""
        self.due_s = due_s
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._epoll.register(self._socket, select.EPOLLIN)
        self._socket.sendall(request)
        return self._socket.fileno()

    def receive(self) -> bool:
        """Take what is there; whether that completes the answer. Raises `WrongAnswerError`."""
        assert self._socket is not None
        count = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
        if count == 0:
            raise WrongAnswerError("the connection ended before the answer did")
        self._answer += memoryview(self._buffer)[:count]
        if not self._answer_bytes:
            self._take_head()
        if not self._answer_bytes or len(self._answer) < self._answer_bytes:
            return False
        if len(self._answer) != self._head_bytes + len(self._work.answer) or not self._answer.endswith(
            self._work.answer
        ):
            raise WrongAnswerError("the answer is not what the origin sent")
        self._answer.clear()
        self._answer_bytes = 0
        if self._work.new_connection:
            self.close()
        return True

    def _take_head(self) -> None:
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._answer, 0, end + 2)
        if not self._answer.startswith(_OK) or length is None:
            raise WrongAnswerError(f"no success of known length: {bytes(self._answer[:60])!r}")
        self._head_bytes = end + 4
        self._answer_bytes = self._head_bytes + int(length[1])

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def paced_load(port: int, work: Work, rate: float, seconds: float) -> PacedLoad:
    """Let requests become due at this mean rate for so long."""
    moments = _moments(rate, seconds)
    load = PacedLoad(len(moments))
    template = work.request()
    buffer = bytearray(1024 * 1024)
    with select.epoll() as epoll:
        free = collections.deque(_Connection(port, work, epoll, buffer) for _ in range(work.connections))
        everyone = list(free)
        busy: dict[int, _Connection] = {}
        sent = 0
        start = time.perf_counter()
        try:
            while (now := time.perf_counter() - start) < seconds + _GRACE_S and (sent < len(moments) or busy):
                while sent < len(moments) and moments[sent] <= now and free:
                    connection = free.popleft()
                    request = template.replace(MARK, b"%08d" % sent) if work.varied else template
                    busy[connection.send(request, moments[sent])] = connection
                    sent += 1
                _wait(epoll, moments[sent] - now if sent < len(moments) and free else _LONGEST_WAIT_S)
                for number, _ in epoll.poll(0):
                    connection = busy[number]
                    if connection.receive():
                        answered_s = time.perf_counter() - start
                        load.latencies_s.append(answered_s - connection.due_s)
                        load.answered += answered_s < seconds
                        del busy[number]
                        free.append(connection)
        finally:
            for connection in everyone:
                connection.close()
    return load


def _moments(rate: float, seconds: float) -> list[float]:
    gaps = random.Random(1)
    moments = []
    moment = gaps.expovariate(rate)
    while moment < seconds:
        moments.append(moment)
        moment += gaps.expovariate(rate)
    return moments


def _wait(epoll: select.epoll, seconds: float) -> None:
    """Wait for an answer: epoll's own timeout has steps of a millisecond, that of select() does not."""
    if seconds > 0:
        select.select([epoll.fileno()], [], [], min(seconds, _LONGEST_WAIT_S))
