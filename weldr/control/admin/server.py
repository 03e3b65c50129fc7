"""The admin port's HTTP server: `/healthz` and `/readyz`, for whoever decides about restarts and traffic."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from weldr.control.listeners import Listeners

_MAX_BODY_BYTES = 1024


class AdminServer:
    """Serves the admin port from the manager's own event loop, so that an answer shows that the loop runs."""

    def __init__(self, listeners: Listeners, not_ready: Callable[[], str | None]) -> None:
        """`not_ready` says in one line why this instance should get no traffic; `None` if it should."""
        self._listeners = listeners
        self._not_ready = not_ready
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Begin to answer."""
        await self._runner.setup()
        for listener in self._listeners.of_worker(0):
            await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stop answering."""
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._not_ready()
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"not ready: {reason}\n")
