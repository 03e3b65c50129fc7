"""A client of the admin API, as plain as can be: one connection for each request, nothing added to it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LIMIT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """An answer of the API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def etag(self) -> str:
        return self.headers["ETag"]

    @property
    def detail(self) -> str:
        """The sentence of a problem document."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        assert self.json["status"] == self.status
        detail: str = self.json["detail"]
        assert "\n" not in detail
        return detail


class Api:
    """The API at an address."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        self.address = address
        self._headers = dict(headers or {})

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request. A body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.address, timeout=LIMIT_S)
        try:
            connection.request(method, path, body, self._headers | dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers=_fields(headers))

    def put(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("PUT", path, body, _fields(headers))

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("PATCH", path, body, _fields(headers))

    def delete(self, path: str, **headers: str) -> Answer:
        return self.call("DELETE", path, headers=_fields(headers))

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("POST", path, body, _fields(headers))


def _fields(names: Mapping[str, str]) -> dict[str, str]:
    """`if_match` for `If-Match`."""
    return {name.replace("_", "-").title(): value for name, value in names.items()}


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    kind: str
    id: str | None
    data: Any


class EventStream:
    """An open event stream. Iterate for events; it ends when the server closes it."""

    def __init__(self, address: str, query: str = "", headers: Mapping[str, str] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), LIMIT_S)
        fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"GET /api/v1/events{query} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n"
        self.socket.sendall(head.encode())
        self._response = http.client.HTTPResponse(self.socket)
        self._response.begin()
        self.status = self._response.status

    def __iter__(self) -> Iterator[Event]:
        kind, name, data = "message", None, ""
        ends_s = time.monotonic() + LIMIT_S
        while line := self._response.readline():
            # Signs of life come for ever, what is waited for might not.
            assert time.monotonic() < ends_s, "the stream did not tell what was waited for"
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                kind = value
            elif field == "id":
                name = value
            elif field == "data":
                data = value
            elif not field and data:
                yield Event(kind, name, json.loads(data))
                kind, name, data = "message", None, ""

    def until(self, kind: str, **wanted: Any) -> Event:
        """The next event of a kind, with these members in its data."""
        for event in self:
            if event.kind == kind and all(event.data.get(name) == value for name, value in wanted.items()):
                return event
        raise AssertionError(f"the stream ended without {kind}")

    def changes(self, key: str) -> Iterator[tuple[Event, dict[str, Any]]]:
        """The changes of one key."""
        for event in self:
            for change in event.data.get("changes", ()):
                if change["key"] == key:
                    yield event, change

    def close(self) -> None:
        self._response.close()
        self.socket.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
