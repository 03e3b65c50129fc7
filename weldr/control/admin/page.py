"""The dashboard's files on `/`: read once, served from memory, the same for everybody.

There is no secret in them, so they need no token; whatever they show they ask the API for. A browser is told to
run and load nothing but them, and to take no text for markup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

_DIRECTORY = Path(__file__).with_name("dashboard")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FIRST = "index.html"
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
    # Asked for again each time, and answered with 304 unless weldr is another: no old script meets a new API.
    "Cache-Control": "no-cache",
}


class Page:
    """All files of the dashboard."""

    def __init__(self) -> None:
        self._files = {
            path.name: (path.read_bytes(), _TYPES[path.suffix])
            for path in sorted(_DIRECTORY.iterdir())
            if path.suffix in _TYPES
        }

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        for name, (content, content_type) in self._files.items():
            path = "/" if name == _FIRST else f"/dashboard/{name}"
            router.add_get(path, _serving(content, content_type))


def _serving(content: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = _HEADERS | {"ETag": tag, "Content-Type": content_type}

    async def serve(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, headers=headers)

    return serve
