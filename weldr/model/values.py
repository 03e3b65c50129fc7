"""The types of the values, as the rest of weldr sees them: decoded, checked, immutable.

Their field names are the names in the JSON values, units last.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


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
    weight: Weight | None = None
    until: datetime | None = None
    """When it ends by itself; the key stays, without effect. RFC 3339, with a time zone."""

    def applied_to(self, backend: Backend) -> Backend:
        """The backend as it is to be used."""
        return msgspec.structs.replace(
            backend,
            weight=backend.weight if self.weight is None else self.weight,
            drain=backend.drain if self.drain is None else self.drain,
        )


class UpstreamTimeouts(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """How long a service's backends may take. What is `None` is taken from the settings."""

    connect_s: Seconds | None = None
    response_s: Seconds | None = None
    read_s: Seconds | None = None


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The policy of a service."""

    timeouts: UpstreamTimeouts = UpstreamTimeouts()


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests go to which service. What is `None` matches everything."""

    service: Annotated[str, msgspec.Meta(min_length=1)]
    host: str | None = None
    """A host name, or `*.` and a host name for every name below it; in lower case, without a port."""
    path: str | None = None
    """A prefix by whole segments: `/cart` takes `/cart` and `/cart/x`, not `/cartoon`."""
    priority: int = 0
    """Higher wins, before anything else is compared."""


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


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Defaults for all instances."""

    timeouts: Timeouts = Timeouts()


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


Value = Backend | Override | Service | Route | Settings
