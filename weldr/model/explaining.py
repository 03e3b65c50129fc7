"""What is asked of `python -m weldr.proxy.explain`, and what it answers."""

from __future__ import annotations

import msgspec

from weldr.model.health import BackendKey, Standing
from weldr.model.traffic import TrafficDelta


class Question(msgspec.Struct, frozen=True):
    """A request to a worker that has this traffic and these standings of backends."""

    delta: TrafficDelta
    standings: list[tuple[BackendKey, Standing]]
    request: bytes
    """Its head, as it is sent."""
    client: str
    """The address that it comes from."""


class ExplainedRoute(msgspec.Struct, frozen=True):
    """A route, and what decided about it."""

    name: str
    wins: bool
    reason: str


class Explanation(msgspec.Struct, frozen=True):
    """What a worker would do with a request."""

    status: int | None = None
    """Of an answer of weldr's own, if it would go no further."""
    reason: str = ""
    routes: list[ExplainedRoute] = []
    """The one that takes it first, then the others."""
    order: list[str] = []
    """All routes, in the order in which they are tried."""
    service: str | None = None
    backends: list[str] = []
    """By id, in the order in which they would be tried. Where it begins differs by worker and request."""
    unused: list[str] = []
    """The other backends of the service, which would get nothing."""
    why_none: str = ""
    """Why no backend would be tried."""
