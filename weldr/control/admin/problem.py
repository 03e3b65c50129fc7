"""Errors of the API as problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

MEDIA_TYPE = "application/problem+json"

PROTECTION = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "weldr",
}
"""Fields of every answer that says nothing else, so that none is misread."""


class ProblemError(Exception):
    """A request that is not done. `detail` is a sentence that says what to do; `members` are added to it."""

    def __init__(
        self, status: HTTPStatus, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def response(self) -> web.Response:
        """The answer that says so."""
        document = {"title": self.status.phrase, "status": self.status.value, "detail": self.detail}
        body = msgspec.json.encode(document | self.members)
        return web.Response(
            status=self.status,
            body=body,
            content_type=MEDIA_TYPE,
            headers=self.headers,
            reason=self.status.phrase,
        )


def from_http_exception(error: web.HTTPException, method: str) -> ProblemError:
    """What aiohttp itself refuses."""
    status = HTTPStatus(error.status)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{method} is not possible here: use one of {allowed}"
        return ProblemError(status, detail, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ProblemError(status, "there is nothing here: /openapi.json lists all that there is")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ProblemError(status, "the body is too large: send less at a time")
    return ProblemError(status, error.text or status.phrase)
