"""`POST /api/v1/explain`: where a request would go, and why; decided by the code of the data plane itself.

It is asked as a program of its own (`python -m weldr.proxy.explain`), with the traffic and the standings that
this instance's workers have. One at a time, and few that wait: it is for people.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.problem import ProblemError
from weldr.model.explaining import Explanation, Question
from weldr.model.health import BackendKey, Standing
from weldr.model.traffic import Traffic, difference

_LIMIT_S = 10.0
_MOST_WAITING = 8
_MOST_URL = 8192
_NO_TEXT = re.compile(r"[\x00-\x20\x7f]")

Line = Annotated[str, msgspec.Meta(max_length=8192)]


class AskedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request that somebody might send."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=_MOST_URL)]
    """`http://host/path`; without a scheme it is taken for one of http."""
    method: Annotated[str, msgspec.Meta(pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}$")] = "GET"
    headers: Annotated[list[Line], msgspec.Meta(max_length=100)] = []
    """Each `Name: value`."""
    client: Annotated[str, msgspec.Meta(max_length=64)] = "127.0.0.1"
    """The address that it comes from."""


class ExplainEndpoint:
    """Handles it."""

    def __init__(
        self, traffic: Callable[[], Traffic], standings: Callable[[], Mapping[BackendKey, Standing]]
    ) -> None:
        self._traffic = traffic
        self._standings = standings
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    def endpoints(self) -> list[Endpoint]:
        """The one that there is."""
        return [
            Endpoint(
                "POST",
                "/api/v1/explain",
                "explain",
                "Where a request would go, and why",
                self._serve,
                {200: Explanation},
                body=AskedRequest,
            )
        ]

    async def _serve(self, call: Call) -> web.Response:
        try:
            asked = msgspec.json.decode(await call.body(), type=AskedRequest)
        except msgspec.ValidationError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
        except msgspec.DecodeError as error:
            raise ProblemError(HTTPStatus.BAD_REQUEST, f"the question is no JSON: {error}") from None
        request = _request(asked)
        if self._waiting >= _MOST_WAITING:
            detail = "others are asking already: try again"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                return json_answer(await self._explain(request, asked.client))
        finally:
            self._waiting -= 1

    async def _explain(self, request: bytes, client: str) -> Explanation:
        standings = list(self._standings().items())
        question = Question(difference(Traffic(), self._traffic()), standings, request, client)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "weldr.proxy.explain",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_LIMIT_S):
                output, errors = await process.communicate(msgspec.msgpack.encode(question))
        except TimeoutError:
            detail = f"the data plane was asked and did not answer within {_LIMIT_S:.0f} s"
            raise ProblemError(HTTPStatus.GATEWAY_TIMEOUT, detail) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            raise RuntimeError(f"the data plane cannot be asked: {last}")
        return msgspec.msgpack.decode(output, type=Explanation)


def _request(asked: AskedRequest) -> bytes:
    url = asked.url if "://" in asked.url else f"http://{asked.url}"
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"this is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or _NO_TEXT.search(asked.url):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "this is no URL: expected http://host/path, without spaces"
        )
    try:
        ipaddress.ip_address(asked.client)
    except ValueError:
        detail = f"the client {asked.client!r} is no IP address: expected 10.0.0.7 or 2001:db8::7"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from None
    for header in asked.headers:
        if "\r" in header or "\n" in header or ":" not in header:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "a field is no `Name: value` on one line")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{asked.method} {target} HTTP/1.1"]
    if not any(header.lower().startswith("host:") for header in asked.headers):
        lines.append(f"Host: {host}")
    return "\r\n".join([*lines, *asked.headers, "", ""]).encode("utf-8", "replace")
