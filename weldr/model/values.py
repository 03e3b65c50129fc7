"""The types of the values, as the rest of weldr sees them: decoded, checked, immutable.

Their field names are the names in the JSON values, units last.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from weldr.model.access_log import AccessLogSettings
from weldr.model.balancing import Balance
from weldr.model.certificates import Certificate
from weldr.model.health import Ejection, HealthCheck, Share
from weldr.model.resilience import AdaptiveConcurrency, CircuitBreaker, Deadline, Hedging, Retries
from weldr.model.routes import Route as Route
from weldr.model.timeouts import Seconds
from weldr.model.timeouts import UpstreamTimeouts as UpstreamTimeouts
from weldr.model.tracing import TracingSettings
from weldr.model.vips import Peer, Vip, VipState

Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """A server that requests can be sent to, by its own word or, in `Traffic`, with the operator's applied."""

    host: str
    """A name or an IP address, without brackets."""
    port: int
    weight: Weight = 1
    """Its share relative to the others of its service; 0 is the same as `drain`."""
    drain: bool = False
    """No new request goes there; those in flight finish."""
    zone: str = ""
    meta: dict[str, str] = {}

    @property
    def draining(self) -> bool:
        """Whether it is out of rotation by somebody's wish."""
        return self.drain or self.weight == 0

    @property
    def authority(self) -> str:
        """`host:port`, as a URL writes it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Override(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The operator's word on a backend. What is `None` leaves the backend's own word in force."""

    drain: bool | None = None
    """No new request goes there; those in flight finish. `false` undoes the backend's own wish."""
    weight: Weight | None = None
    """Its share relative to the others of its service; 0 is the same as `drain`."""
    until: datetime | None = None
    """When it ends by itself; the key stays, without effect. RFC 3339, with a time zone."""

    def applied_to(self, backend: Backend) -> Backend:
        """The backend as it is to be used."""
        return msgspec.structs.replace(
            backend,
            weight=backend.weight if self.weight is None else self.weight,
            drain=backend.drain if self.drain is None else self.drain,
        )


class InstanceOverride(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The operator's word on an instance of weldr."""

    drain: bool = False
    """It is not ready (`/readyz`) and gives its virtual IPs to whoever else stands; it serves what comes."""
    until: datetime | None = None
    """When it ends by itself; the key stays, without effect. RFC 3339, with a time zone."""


class UpstreamLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a service's backends are spared, in each worker. What is `None` is taken from the settings."""

    backend_connections: Count | None = None
    """To one backend. Requests beyond it go to another backend, or wait."""
    backend_idle_connections: CountOrNone | None = None
    """Kept to one backend for the next request."""
    pending_requests: CountOrNone | None = None
    """Of the service, that wait because all its backends have as many connections as they may."""
    requests_in_flight: Count | None = None
    """At all its backends together; more of them wait. No limit if `None`."""


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The policy of a service."""

    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    """Each that is not given is taken from `settings`."""
    limits: UpstreamLimits = UpstreamLimits()
    """Each that is not given is taken from `settings`."""
    balance: Balance = Balance()
    """How its backends share the requests."""
    health: HealthCheck | None = None
    """Active checks by each instance; none if it is `None`."""
    ejection: Ejection = Ejection()
    """When backends whose requests fail are spared."""
    panic_below: Share = 0.5
    """If a smaller share of the backends is healthy, all are used, but for those that drain. 0 never."""
    expired_grace_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0
    """How long backends stay that answer although most leases of the service ran out at once. 0 not at all."""
    retries: Retries = Retries()
    """When a request that has failed at one backend is given to another."""
    hedging: Hedging | None = None
    """When a slow request is sent to a second backend, too; never if `None`."""
    circuit_breaker: CircuitBreaker | None = None
    """When so much fails that the service gets no requests for a while; never if `None`."""
    adaptive_concurrency: AdaptiveConcurrency | None = None
    """A limit of the requests in flight that follows the latency; none if `None`."""
    deadline: Deadline | None = None
    """How long a request may take in all; no limit of its own if `None`."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Defaults for every wait of the data plane, in seconds."""

    connect_s: Seconds = 2.0
    """To establish a connection to a backend."""
    response_s: Seconds = 60.0
    """From the request's last byte to the response's head."""
    read_s: Seconds = 60.0
    """Between two reads of a body, and for a peer that does not read what it is sent."""
    client_head_s: Seconds = 10.0
    """For a request's head, from its first byte (or from the accept) to its last."""
    client_idle_s: Seconds = 75.0
    """For the next request on a kept connection."""
    upstream_idle_s: Seconds = 55.0
    """A kept connection to a backend unused for this long is closed: sooner than most servers do."""
    tunnel_idle_s: Seconds = 3600.0
    """A tunnel in which neither side says anything for this long is closed."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much the data plane takes. Connections and requests are counted in each worker by itself."""

    request_line_bytes: Annotated[int, msgspec.Meta(ge=64, le=1024 * 1024)] = 8 * 1024
    """Of a request; then 414."""
    head_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1024 * 1024)] = 64 * 1024
    """Of a request or response head, and of a trailer section."""
    head_fields: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    """In a request (431) or response (502), and in a trailer section."""
    client_connections: Count = 20_000
    """No more are accepted; the others wait in the system's queue."""
    backend_connections: Count = 1024
    """To one backend. Requests beyond it go to another backend, or wait."""
    backend_idle_connections: CountOrNone = 256
    """Kept to one backend for the next request."""
    pending_requests: CountOrNone = 1024
    """Of one service, that wait because all its backends have as many connections as they may."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Defaults for all instances."""

    timeouts: Timeouts = Timeouts()
    """For every wait of the data plane."""
    limits: Limits = Limits()
    """How much the data plane takes."""
    trusted_proxies: Annotated[list[str], msgspec.Meta(max_length=1000)] = []
    """Networks whose word on where a request came from is taken, as in `10.0.0.0/8`: whom they name is the
    client, for routes and the access log.
    """
    forwarded_fields: Literal["x-forwarded", "forwarded", "both"] = "x-forwarded"
    """How backends are told: by `X-Forwarded-For` and its kin, by `Forwarded` (RFC 7239), or by both."""
    access_log: AccessLogSettings = AccessLogSettings()
    """What of the requests is written."""
    tracing: TracingSettings = TracingSettings()
    """Which requests are parts of traces, and which of these are recorded."""


class StickyKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the cookies of sticky services are signed with. Made by the first instance that needs it."""

    key: Annotated[bytes, msgspec.Meta(min_length=16, max_length=1024)]
    """Secret; in base64."""

    def __repr__(self) -> str:
        return "StickyKey(…)"


class Instance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What an instance tells of itself under its lease."""

    version: str
    addresses: list[str]
    """Where it listens, `host:port`."""
    admin: str
    started: datetime
    applied: int
    """The last revision of configuration that every worker serves."""
    draining: dict[str, int] = {}
    """Requests in flight, by `<service>/<id>`, for each backend that is draining or gone and not yet idle."""
    problems: list[str] = []
    """The first few, one line each."""
    problem_count: int = 0
    peer: Peer | None = None
    """Where other instances reach this one; `None` while there is no virtual IP."""
    vips: dict[str, VipState] = {}
    drained: bool = False
    """Whether `instance_overrides/<instance>` has taken it out of service."""
    in_flight: int | None = None
    """Requests under way in its workers since; told only while it is drained, and not before all have said."""


Value = Backend | Override | InstanceOverride | Service | Route | Settings | StickyKey | Certificate | Vip
