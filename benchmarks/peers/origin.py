"""The origin behind every proxy: answers from memory, checks what is posted, and echoes WebSocket messages.

It does as little for each request as it can, to be much cheaper than any proxy: it shares one core with wrk.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
import sys
from email.utils import formatdate
from typing import cast

import uvloop

from benchmarks.peers.payload import ANSWERS, POSTED

_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE = b"\r\nConnection: close\r\n"
_KEY_FIELD = b"\r\nsec-websocket-key:"
_SHORT_FRAME_BYTES = 125
_MASKED_HEAD_BYTES = 6


class _Answers:
    """Complete answers, with a Date that is renewed every second."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self.of_path = {path: self._answer(b"200 OK", body) for path, body in ANSWERS.items()}
        self.refused = self._answer(b"400 Bad Request", b"not what was to be sent")
        asyncio.get_running_loop().call_later(1.0, self._renew)

    @staticmethod
    def _answer(status: bytes, body: bytes) -> bytes:
        return (
            b"HTTP/1.1 %b\r\nServer: origin\r\nDate: %b\r\nContent-Type: application/octet-stream\r\n"
            b'Cache-Control: no-cache\r\nETag: "1"\r\nContent-Length: %d\r\n\r\n%b'
        ) % (status, formatdate(usegmt=True).encode(), len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._buffer = b""
        self._is_websocket = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if self._is_websocket:
            self._buffer = self._echo(data)
        elif data.startswith(b"GET ") and data.endswith(b"\r\n\r\n"):
            self._buffer = b""
            self._get(data)
        else:
            self._buffer = self._post(data)

    def _get(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        if path == b"/echo":
            self._transport.write(_handshake(head))
            self._is_websocket = True
        else:
            answer = self._answers.of_path.get(path, self._answers.refused)
            if _CLOSE in head:
                self._transport.write(answer.replace(b"\r\n", _CLOSE, 1))
                self._transport.close()
            else:
                self._transport.write(answer)

    def _post(self, data: bytes) -> bytes:
        """Answer once the whole body is there; return what waits for more."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or len(data) < end + len(POSTED):
            return data
        right = data.startswith(b"POST /post ") and data[end:] == POSTED
        self._transport.write(self._answers.of_path[b"/post"] if right else self._answers.refused)
        return b""

    def _echo(self, data: bytes) -> bytes:
        """Send back each whole frame, unmasked; return what waits for more. Short binary frames only."""
        while len(data) >= _MASKED_HEAD_BYTES:
            size = data[1] & 0x7F
            if data[0] != 0x82 or size > _SHORT_FRAME_BYTES:
                self._transport.close()
                return b""
            end = _MASKED_HEAD_BYTES + size
            if len(data) < end:
                break
            mask = int.from_bytes((data[2:6] * 32)[:size], "big")
            payload = int.from_bytes(data[_MASKED_HEAD_BYTES:end], "big") ^ mask
            self._transport.write(bytes((0x82, size)) + payload.to_bytes(size, "big"))
            data = data[end:]
        return data


def _handshake(head: bytes) -> bytes:
    start = head.lower().index(_KEY_FIELD) + len(_KEY_FIELD)
    key = head[start : head.index(b"\r\n", start)].strip()
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SUFFIX).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n"
    ) % accept


class Origin:
    """The origin in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.origin"], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __enter__(self) -> Origin:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)


async def _serve() -> None:
    answers = _Answers()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(answers), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
