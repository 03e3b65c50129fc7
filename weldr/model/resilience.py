"""What is done about a service's failures, slowness and load: the members of a service's value that say so.

Every count is one worker's own: none asks another before it tries again, refuses or hedges.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from weldr.model.field_names import LOAD_BEARING
from weldr.model.health import Invalid, Share

Pause = Annotated[float, msgspec.Meta(ge=0, le=60)]
Wait = Annotated[float, msgspec.Meta(ge=0.001, le=86_400)]
Window = Annotated[float, msgspec.Meta(ge=1, le=3_600)]
RetriedStatus = Annotated[int, msgspec.Meta(ge=500, le=599)]
Concurrency = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}\Z")


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many requests may be sent once more than clients asked for, whether again or beside the first."""

    share: Share = 0.2
    """Of the service's requests within `window_s`, ..."""
    minimum: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 10
    """... but always so many: a service with few requests could else never try again."""
    window_s: Window = 10.0
    """The latest so many seconds count."""


class Retries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a request that has failed at one backend is given to another.

    Only one that is idempotent (RFC 9110, section 9.2.2), has no body and of whose response the client has
    nothing yet. Beside that, whatever this says: a request of which nothing was sent, since no connection was
    made, goes to the next backend; and an idempotent one without a body that was lost on a kept connection is
    sent once more, since it was most likely closed for its age.
    """

    attempts: Annotated[int, msgspec.Meta(ge=0, le=3)] = 1
    """How often, after the first time; 0 never."""
    statuses: Annotated[tuple[RetriedStatus, ...], msgspec.Meta(max_length=100)] = (502, 503, 504)
    """Those of a response that count as a failure. A lost connection always does."""
    per_try_s: Wait | None = None
    """How long each try of such a request may take to its response's head; only the response's own time limit
    if `None`.
    """
    pause_s: Pause = 0.025
    """The pause before the first is a random time up to this; up to twice as long before each next one, ..."""
    longest_pause_s: Pause = 0.25
    """... and never longer than this."""
    budget: RetryBudget = RetryBudget()
    """How many there may be in all."""


class Hedging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a request is sent to a second backend, too, without giving up the first: the first answer wins.

    Only one that may be retried, and within the budget of the retries.
    """

    percentile: Annotated[float, msgspec.Meta(ge=50, le=99.9)] = 95.0
    """When it has taken longer than this share of the service's recent requests did."""
    minimum_s: Wait = 0.01
    """But not earlier than this."""


class CircuitBreaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a service gets no requests at all for a while: they are answered with 503 at once."""

    failure_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """This share of the tries within `window_s` ..."""
    minimum_requests: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20
    """... if there were as many."""
    window_s: Window = 10.0
    """The latest so many seconds count."""
    open_s: Annotated[float, msgspec.Meta(ge=0.1, le=3_600)] = 5.0
    """How long, until a few are let through on trial."""
    trials: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 3
    """How many of those must succeed; one that fails begins it all anew."""


class AdaptiveConcurrency(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A limit of the requests in flight that follows the latency: it falls when that rises, and else grows."""

    initial: Concurrency = 50
    """At the beginning."""
    minimum: Concurrency = 5
    """It does not fall below this."""
    maximum: Concurrency = 10_000
    """It does not grow beyond this."""
    tolerance: Annotated[float, msgspec.Meta(ge=1, le=10)] = 1.5
    """How many times what it is without load the latency may be without consequence."""


class Deadline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How long a request may take in all, from its head to the end of its response, waits and retries
    included.
    """

    total_s: Wait
    """From the request's head to the response's end."""
    header: str = "X-Request-Timeout-Ms"
    """Tells the backend in milliseconds how much is left. A client that sends it may shorten the time."""


def invalid_retries(retries: Retries) -> Invalid | None:
    """What the types alone cannot tell of a service's or route's `retries`; `None` if all is well."""
    if retries.longest_pause_s >= retries.pause_s:
        return None
    return Invalid(
        "retries.longest_pause_s",
        f"{retries.longest_pause_s:g} is below pause_s, which is {retries.pause_s:g}: raise it too",
    )


def invalid_resilience(
    retries: Retries, adaptive: AdaptiveConcurrency | None, deadline: Deadline | None
) -> Invalid | None:
    """What the types alone cannot tell; `None` if all is well."""
    if (invalid := invalid_retries(retries)) is not None:
        return invalid
    if adaptive is not None and not adaptive.minimum <= adaptive.initial <= adaptive.maximum:
        return Invalid(
            "adaptive_concurrency.initial",
            f"{adaptive.initial} is not from minimum to maximum, {adaptive.minimum} to {adaptive.maximum}",
        )
    reason = None if deadline is None else _invalid_header(deadline.header)
    return None if reason is None else Invalid("deadline.header", reason)


def _invalid_header(name: str) -> str | None:
    shown = repr(name if len(name) <= 80 else name[:80] + "…")
    if not _TOKEN.match(name):
        return f"{shown} is no header name: expected letters, digits and hyphens, at most 64"
    if name.lower() in LOAD_BEARING:
        return f"{shown} has a meaning of its own: choose another name"
    return None
