"""The works that every proxy is given, as the bytes of their requests."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers.payload import LARGE, MEDIUM, POSTED, SMALL

MARK = b"@@@@@@@@"
"""Stands in a varied request where each request has a number of eight digits of its own."""

# With Host eleven, about what a browser sends.
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "http://bench.example/shop/category/list",
    "Cookie": "session=1f0c8e2b9a7d4c35; theme=dark; visits=17",
    "Cache-Control": "max-age=0",
    "X-Request-Id": "5e1c0f3a-7a53-4a3f-9c57-0d9b6f0e2c11",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass(frozen=True)
class Work:
    """One kind of HTTP request, and the one answer that is right."""

    name: str
    title: str
    path: str
    answer: bytes
    body: bytes = b""
    connections: int = 64
    new_connection: bool = False
    varied: bool = False

    def request(self) -> bytes:
        """Head and body; a varied one has `MARK` in its target and in every field but Host."""
        lines = [
            f"{'POST' if self.body else 'GET'} {self.path}{self._mark('?n=')} HTTP/1.1",
            "Host: bench.example",
            *(f"{name}: {value}{self._mark(' ')}" for name, value in _HEADERS.items()),
        ]
        if self.body:
            lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(self.body)}"]
        if self.new_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + self.body

    def _mark(self, before: str) -> str:
        return before + MARK.decode() if self.varied else ""


WORKS = (
    Work("small", "GET of 100 bytes, 11 request headers", "/small", SMALL),
    Work(
        "varied", "GET of 100 bytes, target and headers differ in every request", "/small", SMALL, varied=True
    ),
    Work("connections", "GET of 100 bytes, a new connection per request", "/small", SMALL, new_connection=True),
    Work("64k", "GET of 64 KiB", "/medium", MEDIUM),
    Work("10m", "GET of 10 MiB, 8 connections", "/large", LARGE, connections=8),
    Work("post", "POST of 16 KiB", "/post", SMALL, body=POSTED),
)

IDLE = "idle"
WEBSOCKET = "websocket"
NAMES = (*(work.name for work in WORKS), IDLE, WEBSOCKET)
