"""Requests that weldr accepts, as a table writes them, and what a backend must get for each."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.backends import Received, ScriptedBackend
from tests.support.http import RawClient, get
from tests.support.worker import Worker

OWN = {"via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-request-id"}
POST = "POST / HTTP/1.1"


def head(*fields: str, line: str = "GET / HTTP/1.1", host: str | None = "a") -> bytes:
    lines = [line, *([f"Host: {host}"] if host is not None else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@dataclass(frozen=True)
class Forwarded:
    """A request, and what the backend must have got: the line, the fields but weldr's own, and the body.

    The fields in order: of those of one name it means something (RFC 9110, section 5.3).
    """

    data: bytes
    line: str
    fields: tuple[str, ...] = ("Host: a",)
    body: bytes = b""

    async def play(self, worker: Worker, backend: ScriptedBackend, *, bytewise: bool) -> None:
        """Send it, and others behind it where the connection is kept."""
        backend.received.clear()
        async with await RawClient.connect(worker.port) as client:
            assert (await client.exchange(self.data, bytewise=bytewise)).status == 200
            first, version = self.data.lstrip(b"\r\n").partition(b"\r\n")[0], b"HTTP/1.1"
            if first.endswith(version) and b"close" not in self.data:
                # The next request on the connection begins where this one ended.
                assert (await client.exchange(get("/next"), bytewise=bytewise)).status == 200
                assert backend.received.pop().target == "/next"
                # Nor does it matter whether the request before it was the same.
                for _ in range(2):
                    assert (await client.exchange(self.data, bytewise=bytewise)).status == 200
        for received in backend.received:
            self._check(received, worker.port)

    def _check(self, received: Received, port: int) -> None:
        assert received.line == self.line, received
        fields = [f"{name}: {value}" for name, value in received.fields if name.lower() not in OWN]
        assert fields == list(self.fields), received
        assert received.body == self.body, received
        host = next(field for field in self.fields if field.startswith("Host: ")).removeprefix("Host: ")
        own = ((name.lower(), value) for name, value in received.fields if name.lower() in OWN)
        *rest, (name, request_id) = sorted(own)
        assert name == "x-request-id", received
        assert request_id, received
        assert rest == [
            ("via", "1.0 weldr" if b"HTTP/1.0\r\n" in self.data else "1.1 weldr"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-host", host),
            ("x-forwarded-port", str(port)),
            ("x-forwarded-proto", "http"),
        ], received
