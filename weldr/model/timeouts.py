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
    response_s: Seconds | None = None
    read_s: Seconds | None = None
    tunnel_idle_s: Seconds | None = None
