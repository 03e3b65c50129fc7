"""WebSocket messages to the echo and back, on each connection the next one as soon as the last is back."""

from __future__ import annotations

import select
import socket
import statistics
import time
from dataclasses import dataclass

from benchmarks.peers.exact import WrongAnswerError
from benchmarks.peers.payload import MESSAGE

_CONNECTIONS = 64
_LIMIT_S = 10.0
_MASK = b"\x5a\x13\xc7\x2e"
_HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # the answer to that key, of RFC 6455, section 1.3

_MASKED = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(MESSAGE))
_SENT = bytes((0x82, 0x80 | len(MESSAGE))) + _MASK + _MASKED
_ECHOED = bytes((0x82, len(MESSAGE))) + MESSAGE


@dataclass(frozen=True)
class EchoLoad:
    """What came back."""

    seconds: float
    messages: int
    p50_ms: float
    p99_ms: float


class EchoClients:
    """Connections through the proxy to the echo."""

    def __init__(self, port: int) -> None:
        self._sockets: dict[int, socket.socket] = {}
        try:
            for _ in range(_CONNECTIONS):
                connection = _connect(port)
                self._sockets[connection.fileno()] = connection
        except BaseException:
            self.close()
            raise

    def run(self, seconds: float) -> EchoLoad:
        """Let messages go round for so long. Raises `WrongAnswerError` if one is not as it was sent."""
        latencies: list[float] = []
        received = dict.fromkeys(self._sockets, b"")
        start = time.perf_counter()
        sent = dict.fromkeys(self._sockets, start)
        with select.epoll() as epoll:
            for number, connection in self._sockets.items():
                epoll.register(number, select.EPOLLIN)
                connection.send(_SENT)
            while received:
                for number, _ in epoll.poll(_LIMIT_S):
                    connection = self._sockets[number]
                    echoed = received[number] + connection.recv(4096)
                    received[number] = echoed
                    if len(echoed) < len(_ECHOED) and _ECHOED.startswith(echoed) and echoed:
                        continue
                    if echoed != _ECHOED:
                        raise WrongAnswerError("a message came back changed, or the connection ended")
                    now = time.perf_counter()
                    latencies.append(now - sent[number])
                    if now - start > seconds:
                        del received[number]
                        continue
                    received[number] = b""
                    sent[number] = now
                    connection.send(_SENT)
        elapsed = time.perf_counter() - start
        cuts = statistics.quantiles(latencies, n=100)
        return EchoLoad(elapsed, len(latencies), cuts[49] * 1000, cuts[98] * 1000)

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()

    def __enter__(self) -> EchoClients:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_HANDSHAKE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        part = connection.recv(4096)
        answer += part
        if not part or len(answer) > 16384:
            break
    if not answer.startswith(b"HTTP/1.1 101") or _ACCEPT not in answer:
        connection.close()
        raise WrongAnswerError(f"no WebSocket: {answer[:60]!r}")
    return connection
