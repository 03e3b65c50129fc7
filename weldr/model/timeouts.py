"""How long a service's backends may take."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class UpstreamTimeouts(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """How long a service's backends may take. What is `None` is taken from the settings."""

    connect_s: Seconds | None = None
    """To establish a connection to a backend."""
    response_s: Seconds | None = None
    """From the request's last byte to the response's head."""
    read_s: Seconds | None = None
    """Between two reads of a body, and for a peer that does not read what it is sent."""
    tunnel_idle_s: Seconds | None = None
    """A tunnel in which neither side says anything for this long is closed."""
