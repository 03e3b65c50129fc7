"""What of the requests is written to the access log: a part of `settings`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

AccessField = Literal[
    "time",
    "client",
    "method",
    "host",
    "target",
    "protocol",
    "status",
    "duration_s",
    "request_bytes",
    "response_bytes",
    "service",
    "backend",
    "request_id",
    "referer",
    "user_agent",
    "error",
    "details",
    "route",
]

DEFAULT_FIELDS: tuple[AccessField, ...] = AccessField.__args__  # type: ignore[attr-defined]

SECRET_PARAMETERS = (
    "access_token",
    "api_key",
    "apikey",
    "key",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
)


class AccessLogSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The access log, which every worker writes to standard output."""

    format: Literal["json", "combined", "off"] = "json"
    """One JSON object a line, Apache's combined format, or nothing."""
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The share of ordinary requests that is written. Failed (5xx) and slow ones always are."""
    slow_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 1.0
    """A request that took longer is a slow one."""
    fields: Annotated[tuple[AccessField, ...], msgspec.Meta(min_length=1, max_length=32)] = DEFAULT_FIELDS
    """Of a JSON object, in this order."""
    masked_query: Annotated[tuple[str, ...], msgspec.Meta(max_length=100)] = SECRET_PARAMETERS
    """Parameters of a query whose values are not written, in any case of letters."""
