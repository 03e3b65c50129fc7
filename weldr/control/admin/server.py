"""The admin port's HTTP server: the API, and `/healthz` and `/readyz` for whoever restarts it or sends traffic.

It runs in the manager's own event loop, so that an answer shows that the loop runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from weldr.control.admin.connections import ConnectionLimits, Connections
from weldr.control.admin.endpoint import Call, Endpoint
from weldr.control.admin.event_streams import EventStreams
from weldr.control.admin.explain import ExplainEndpoint
from weldr.control.admin.guard import Guard
from weldr.control.admin.history_endpoint import HistoryEndpoint
from weldr.control.admin.key_endpoints import KeyEndpoints, json_answer
from weldr.control.admin.lease_times import LeaseTimesEndpoint
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.numbers import NumbersEndpoint
from weldr.control.admin.older_calls import OlderCalls
from weldr.control.admin.openapi import describe
from weldr.control.admin.page import Page
from weldr.control.admin.problem import PROTECTION, ProblemError, from_http_exception
from weldr.control.admin.tokens import TokenFileError
from weldr.control.admin.transaction import TransactionEndpoint
from weldr.control.admin.views import Views
from weldr.control.admin.writes import Writes, of_etcd
from weldr.control.fleet.fleet import Fleet, FleetParts
from weldr.control.health.departures import Left
from weldr.control.listeners import Listeners
from weldr.control.metrics.endpoint import MetricsEndpoint, Sources
from weldr.control.worker_pool import WorkerPool
from weldr.etcd.client import EtcdClient
from weldr.etcd.commit import EditConflictError, EditContentionError
from weldr.etcd.errors import EtcdError
from weldr.etcd.follow import Change
from weldr.model.catalog import Catalog
from weldr.model.collections import path_of
from weldr.model.health import BackendKey, Standing
from weldr.model.keys import KeySpace

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024
MOST_AT_ONCE = 256
"""Requests, without event streams."""
_TOKENS_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What the manager gives the API."""

    client: EtcdClient
    keys: KeySpace
    instance: str
    pool: WorkerPool
    not_ready: Callable[[], str | None]
    """Why this instance should get no traffic, in one line; `None` if it should."""
    on_written: Callable[[int], None]
    """Told the revision of each write."""
    connections: ConnectionLimits
    lease_id: Callable[[], int | None]
    """The instance's lease, while it lives."""
    standings: Callable[[], Mapping[BackendKey, Standing]]
    """What the checks say of the backends that are anything but up."""
    metrics: Sources
    follows: Callable[[], bool]
    """Whether it hears from etcd."""


class AdminServer:
    """Serves the admin port."""

    def __init__(self, listeners: Listeners, guard: Guard, parts: AdminParts) -> None:
        self._listeners = listeners
        self._guard = guard
        self._not_ready = parts.not_ready
        self._at_once = 0
        self._token_watch: asyncio.Task[None] | None = None
        self._catalog = Catalog(parts.keys)
        self._noted: list[Change] = []
        self._mirror = Mirror(parts.keys, lambda news: self._streams.take(news))
        self._streams = EventStreams(self._mirror, parts.instance, parts.connections.most_streams)
        self._fleet = Fleet(
            FleetParts(
                client=parts.client,
                keys=parts.keys,
                instance=parts.instance,
                pool=parts.pool,
                mirror=self._mirror,
                lease_id=parts.lease_id,
                on_written=parts.on_written,
                follows=parts.follows,
            )
        )
        writes = Writes(parts.client, parts.keys, self._mirror, parts.on_written)
        self._endpoints: list[Endpoint] = [
            *KeyEndpoints(parts.client, self._mirror, writes).endpoints(),
            *TransactionEndpoint(parts.keys, writes).endpoints(),
            *HistoryEndpoint(parts.client, parts.keys).endpoints(),
            *self._streams.endpoints(),
            *Views(self._mirror, parts.pool, parts.instance, lambda: self._catalog.traffic).endpoints(),
            *OlderCalls(self._mirror, writes).endpoints(),
            *NumbersEndpoint(self._mirror, self._fleet, parts.instance).endpoints(),
            *LeaseTimesEndpoint(parts.client, self._mirror).endpoints(),
            *ExplainEndpoint(lambda: self._catalog.traffic, parts.standings).endpoints(),
            *MetricsEndpoint(parts.metrics).endpoints(),
        ]
        self._connections = Connections(self._application(), parts.connections)

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._problems])
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        Page().add_to(application.router)
        description = describe(self._endpoints, needs_token=self._guard.has_tokens)

        async def openapi(call: Call) -> web.Response:
            return json_answer(description)

        described = Endpoint("GET", "/openapi.json", "openapi", "This API", openapi, {200: {"type": "object"}})
        for endpoint in [*self._endpoints, described]:
            # An event stream is the only one that is not bounded in time, and it is bounded in number.
            counted = endpoint.answer_type == "application/json"
            handler = self._handler(endpoint, counted=counted)
            application.router.add_route(endpoint.method, endpoint.path, handler)
            if endpoint.method == "GET" and counted:
                # The same answer; aiohttp leaves its body out.
                application.router.add_route("HEAD", endpoint.path, handler)
        return application

    def note(self, changes: Sequence[Change]) -> None:
        """What etcd said; `take` brings the catalog that is made from it."""
        self._noted += changes

    def take(self, catalog: Catalog) -> None:
        """A new catalog is in force, and the workers have it: now there is time for those who look on."""
        changes, self._noted = self._noted, []
        self._catalog = catalog
        first = not self._mirror.revision
        self._mirror.take(changes, catalog)
        if first:
            self._streams.begin()
        self._fleet.follow()

    def tell_left(self, left: Sequence[Left]) -> None:
        """How backends left."""
        for each in left:
            found = {"key": path_of(each.name), "revision": each.revision, "reason": each.how.value}
            self._streams.tell("departure", found)

    async def start(self) -> None:
        """Begin to answer."""
        self._streams.start()
        self._fleet.start()
        if self._guard.has_tokens:
            self._token_watch = asyncio.create_task(self._follow_tokens(), name="admin-tokens")
        await self._connections.start([listener.sock for listener in self._listeners.of_worker(0)])

    async def close(self) -> None:
        """Stop answering."""
        await self._fleet.close()
        if self._token_watch is not None:
            self._token_watch.cancel()
            await asyncio.gather(self._token_watch, return_exceptions=True)
        await self._streams.close()
        await self._connections.close()

    async def _follow_tokens(self) -> None:
        """Have a token that was taken out of the file mean nothing any more, a moment later."""
        while True:
            await asyncio.sleep(_TOKENS_LOOK_S)
            try:
                if not await asyncio.to_thread(self._guard.reload):
                    continue
            except TokenFileError as error:
                logger.error("the admin tokens stay as they were", extra={"reason": str(error)})
                continue
            logger.info("the admin tokens are others")
            # What a stream was admitted by may be gone.
            self._streams.drop_all()

    def _handler(
        self, endpoint: Endpoint, *, counted: bool
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = self._guard.admit(request, endpoint.role, time.monotonic())
            call = Call(request, endpoint, caller)
            if not counted:
                return await endpoint.handler(call)
            if self._at_once >= MOST_AT_ONCE:
                detail = f"{MOST_AT_ONCE} requests are under way already: try again"
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
            self._at_once += 1
            try:
                return await endpoint.handler(call)
            finally:
                self._at_once -= 1

        return handle

    @web.middleware
    async def _problems(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every failure becomes a problem document, and every answer is protected from being misread."""
        try:
            with self._connections.busy(request):
                response = await handler(request)
            self._connections.check_room(response)
        except Exception as error:
            response = _problem(request, error).response()
        if not response.prepared:
            for name, value in PROTECTION.items():
                response.headers.setdefault(name, value)
        return response

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._not_ready()
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"not ready: {reason}\n")


def _problem(request: web.Request, error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case web.HTTPException():
            return from_http_exception(error, request.method)
        case EditConflictError():
            return ProblemError(HTTPStatus.PRECONDITION_FAILED, str(error), found_revision=error.found)
        case EditContentionError():
            return ProblemError(HTTPStatus.CONFLICT, str(error))
        case EtcdError():
            return of_etcd(error)
    logger.error("a request to the admin API failed", exc_info=error, extra={"path": request.path})
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "weldr failed at this request: its log says why")
