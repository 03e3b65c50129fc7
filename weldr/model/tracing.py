"""Traces: a part of `settings`."""

from __future__ import annotations

from typing import Annotated

import msgspec


class TracingSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """W3C Trace Context. A request that belongs to a trace already is passed on as one in any case."""

    start: bool = False
    """Whether a request without a valid `traceparent` gets one, and what is malformed is dropped. It costs
    every request some microseconds.
    """
    sample: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """The share of the traces begun here that is recorded and, with `weldr run --otlp`, exported."""
    follow_callers: bool = True
    """Whether requests are recorded that come as part of a trace which their caller records."""
    spans_per_second: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000
    """No more are exported by each worker: callers say of whole traces that they are recorded."""
