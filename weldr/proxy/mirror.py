"""A copy of a request for another service. Its answer is read and dropped; the original never waits for it."""

from __future__ import annotations

from weldr.proxy.connect import ConnectError, connect
from weldr.proxy.context import Context
from weldr.proxy.pool import BackendPool
from weldr.proxy.response_fields import ResponseInvalidError
from weldr.proxy.response_head import ResponseHead
from weldr.proxy.service_table import ServiceTable
from weldr.proxy.upstream_connection import UpstreamConnection

MOST_BODY_BYTES = 64 * 1024
"""A request with a larger body is not mirrored: its copy would have to be held until it is complete."""
_MOST_IN_FLIGHT = 256
_LONGEST_ANSWER_S = 60.0
"""An answer without an end, such as a stream of events, would keep its place among those for ever."""


class Mirror:
    """One copy, from the choice of a backend to the end of the answer."""

    __slots__ = ("_context", "_ended", "_method", "_pool", "_request", "_service", "_until_s", "_upstream")

    def __init__(
        self, context: Context, service: ServiceTable, pool: BackendPool, method: bytes, request: bytes
    ) -> None:
        self._context = context
        self._service = service
        self._pool = pool
        self._method = method
        self._request = request
        self._upstream: UpstreamConnection | None = None
        self._until_s = 0.0
        self._ended = False

    async def run(self) -> None:
        """Send it. Whatever goes wrong concerns nobody."""
        try:
            await self._send()
        except Exception as error:
            self._context.fault("mirror", error)
            self._end()

    async def _send(self) -> None:
        upstream = self._pool.take()
        if upstream is None:
            try:
                upstream = await connect(self._context, self._pool, None, self._service.connect_s)
            except ConnectError:
                self._end()
                return
            if self._pool.stopped:
                upstream.close()
                self._end()
                return
        self._upstream = upstream
        limits = self._context.fleet.table.limits
        upstream.deadline_s = self._context.now_s() + self._service.response_s
        self._until_s = upstream.deadline_s + _LONGEST_ANSWER_S
        upstream.begin(self, self._method, self._request, self._service.read_s, limits)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._context.mirrored -= 1
            self._pool.leave()

    # For the connection.

    def upstream_received(self) -> None:
        upstream = self._upstream
        assert upstream is not None
        reader = upstream.reader
        reader.take_interim()
        reader.take_body()
        if reader.head is not None and reader.head.status == 101:
            upstream.abort()
            self._end()
        elif reader.complete:
            if reader.head is not None and reader.head.status < 500:
                # Nothing else may come to this backend: what was held against it would never end.
                self._pool.health.successes += 1
            upstream.release(self._context.fleet.table.timeouts.upstream_idle_s)
            self._end()
        else:
            upstream.deadline_s = min(self._context.now_s() + self._service.read_s, self._until_s)

    def upstream_answered(self, head: ResponseHead, body: bytes) -> bool:
        return False

    def upstream_congested(self, congested: bool) -> None:
        """Its request is small and written at once: nobody waits for room."""

    def upstream_invalid(self, error: ResponseInvalidError) -> None:
        self.upstream_timed_out(writing=False)

    def upstream_unsent(self, unsent: bytes) -> None:
        self._end()

    def upstream_lost(self) -> None:
        self._end()

    def give_up(self) -> None:
        self._end()

    def upstream_timed_out(self, *, writing: bool) -> None:
        assert self._upstream is not None
        self._upstream.abort()
        self._end()


def mirror(context: Context, service_name: str, method: bytes, request: bytes) -> None:
    """Send a copy to this service, unless that would be too much."""
    service = context.fleet.table.services.get(service_name)
    incidents = context.accounts.incidents(service_name)
    pool = None
    if service is not None and context.mirrored < _MOST_IN_FLIGHT:
        pool = service.balancer.pick((), now_s=context.now_s())
    if service is None or pool is None or pool.full:
        incidents.mirrors_dropped += 1
        return
    incidents.mirrored += 1
    context.mirrored += 1
    pool.enter()
    context.spawn(Mirror(context, service, pool, method, request).run(), "mirror")
