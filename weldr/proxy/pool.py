"""One backend of one service: its kept connections and its requests in flight.

A kept connection is taken in LIFO order, so that the ones at the bottom grow old and are retired when fewer
are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from weldr.model.health import BackendKey
from weldr.proxy.balancing.latency import PeakLatency
from weldr.proxy.health import BackendHealth, Rotation
from weldr.proxy.pending import Pending

if TYPE_CHECKING:
    from weldr.proxy.upstream_connection import UpstreamConnection

PoolKey = BackendKey


class BackendPool:
    """See the module."""

    __slots__ = (
        "_admitted",
        "_kept",
        "_limit",
        "_on_idle",
        "health",
        "in_flight",
        "key",
        "latency",
        "max_connections",
        "max_kept",
        "pending",
        "rotation",
        "speaks_10",
        "sticky_until_s",
        "stopped",
        "way",
    )

    def __init__(self, key: PoolKey, on_idle: Callable[[BackendPool], None]) -> None:
        """`on_idle` is called when it is stopped and its last request has ended."""
        self.key = key
        self.way = key[:2]
        """Service and backend."""
        self.health = BackendHealth()
        self.rotation: Rotation | None = None
        """The service's, while its backend is in the catalog and does not drain."""
        self._limit = 0
        self._admitted: int | None = None
        """How many requests its health allows, if it is not good."""
        self.max_connections = 0
        """The lower of its limit and what its health allows."""
        self.max_kept = 0
        self.pending = Pending()
        """The requests of its service that wait for one of its backends."""
        self.in_flight = 0
        """Requests that were given to this backend and have not ended, tunnels included."""
        self.stopped = False
        """Whether it gets no new requests, ..."""
        self.sticky_until_s = 0.0
        """... but for those of its sticky clients until then."""
        self.speaks_10 = False
        """Whether its last answer was of HTTP/1.0."""
        self.latency: PeakLatency | None = None
        """Of its answers, while the policy of its service asks for that."""
        self._on_idle = on_idle
        self._kept: list[UpstreamConnection] = []

    @property
    def authority(self) -> str:
        """`host:port`, for the log."""
        _, _, host, port = self.key
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """The backend is in rotation."""
        self.stopped = False
        self.sticky_until_s = 0.0

    def stop(self) -> None:
        """The backend gets no new requests; those in flight finish."""
        self.stopped = True
        kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def limit(self, connections: int) -> None:
        """How many connections, and so requests at a time, the backend may have at most."""
        self._limit = connections
        self._bound()

    def admit(self, requests: int | None) -> None:
        """How many requests at a time its health allows beside those that it has, which may last as tunnels do;
        `None` for no limit but its own.
        """
        self._admitted = self.in_flight + requests if requests else requests
        self._bound()

    def lower_admitted(self) -> None:
        """If few are: what has ended meanwhile makes room for one more at most. Called twice a second."""
        if self._admitted:
            self._admitted = min(self._admitted, self.in_flight + 1)
            self._bound()

    def _bound(self) -> None:
        self.max_connections = self._limit if self._admitted is None else min(self._admitted, self._limit)

    def failed(self, now_s: float, reason: str) -> None:
        """A request failed, and that tells of the backend."""
        if self.rotation is not None:
            self.rotation.failed(self, now_s, reason)

    def failed_late(self, now_s: float, reason: str, lasted_s: float) -> None:
        """A request failed whose response has begun well so long ago, and was counted as a success."""
        if now_s - lasted_s >= self.health.tried_s:
            self.health.successes -= 1
            self.failed(now_s, reason)

    def rest(self, now_s: float, for_s: float) -> None:
        """The backend asks for no requests for so long."""
        if self.rotation is not None:
            self.rotation.rest(self, now_s, for_s)

    @property
    def full(self) -> bool:
        """Whether it has as many requests, and so connections in use, as it may."""
        return self.in_flight >= self.max_connections

    @property
    def has_own_room(self) -> bool:
        """Whether it has fewer than its own limit says, whatever its health allows."""
        return self.in_flight < self._limit

    @property
    def is_used(self) -> bool:
        """Whether it gets new requests, as long as it has room."""
        return not self.stopped and self.rotation is not None and self.rotation.uses(self)

    def enter(self) -> None:
        """A request is given to this backend."""
        self.in_flight += 1

    def leave(self) -> None:
        """That request has ended, or goes elsewhere."""
        self.in_flight -= 1
        if self.stopped:
            if self.in_flight == 0:
                self._on_idle(self)
        elif self.pending.waiting and not self.full and self.is_used:
            self.pending.wake_one(self)

    def take(self) -> UpstreamConnection | None:
        """A kept connection."""
        kept = self._kept
        return kept.pop() if kept else None

    def keep(self, connection: UpstreamConnection, until_s: float) -> None:
        """Take back a connection that is fit for another request, to be used before `until_s`."""
        kept = self._kept
        if self.stopped or len(kept) >= self.max_kept or connection.transport.is_closing():
            connection.close()
            return
        connection.deadline_s = until_s
        kept.append(connection)

    @property
    def kept(self) -> int:
        """How many connections are kept."""
        return len(self._kept)

    def trim(self, count: int) -> int:
        """Close so many of the kept connections, or all, those first that were not used for longest."""
        oldest = self._kept[:count]
        del self._kept[:count]
        for connection in oldest:
            connection.close()
        return len(oldest)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is closed."""
        if connection in self._kept:
            self._kept.remove(connection)
