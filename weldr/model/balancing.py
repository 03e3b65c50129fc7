"""The member `balance` of a service's value: by which policy its backends are chosen, and what binds a
client."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from weldr.model.health import Invalid

FieldName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_MAX_SHOWN = 80


class HashBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of a request decides, under `consistent_hash`, which backend it goes to. Exactly one member is
    given.

    Requests without that header or cookie are spread by chance.
    """

    header: FieldName | None = None
    """The value of this field."""
    cookie: FieldName | None = None
    """The value of this cookie."""
    client: bool = False
    """The client's address."""
    path: bool = False
    """Without the query."""


class Sticky(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A cookie that brings a client back to the backend that it had before, as long as that can be used."""

    cookie: FieldName | None = None
    """Its name; one that is made from the service's name if `None`, so that two services do not share it."""
    max_age_s: Annotated[int, msgspec.Meta(ge=1, le=400 * 86_400)] | None = None
    """How long a browser keeps it; until it is closed if `None`."""
    same_site: Literal["lax", "strict", "none"] = "lax"
    """Whether browsers send it with requests that come from other sites."""
    secure: bool = False
    """Whether it is sent over HTTPS only."""
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)] = 10.0
    """How long a backend that drains still gets the requests of clients that have its cookie."""


class Balance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one of a service's backends is chosen for each request. Each worker chooses by what it sees
    itself."""

    policy: Literal["round_robin", "least_requests", "random", "consistent_hash", "peak_ewma"] = "round_robin"
    """Taking turns; the less busy of two; by chance; by a property of the request; the quicker of two."""
    hash_by: HashBy = HashBy(client=True)
    """Under `consistent_hash`; the client's address if not given."""
    hash_bound: Annotated[float, msgspec.Meta(ge=1, le=1_000)] = 1.5
    """Under `consistent_hash`: a backend that has more than this many times the mean of requests in flight does
    not get more of them; they go to the next on the ring.
    """
    sticky: Sticky | None = None
    """No cookie if `None`."""
    slow_start_s: Annotated[float, msgspec.Meta(ge=0, le=3_600)] = 0.0
    """How long the share of a backend grows that is new or has recovered; 0 not at all. Not under
    `consistent_hash`, where each request has its place.
    """
    prefer_zone: bool = True
    """Whether an instance that has a zone prefers the backends of the same one."""
    zone_enough: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Which share of the own zone's backends, by weight, has to be usable for all requests to stay there. With
    less the requests that stay become fewer in proportion.
    """


def invalid_balance(balance: Balance) -> Invalid | None:
    """What the types alone cannot tell; `None` if all is well."""
    by = balance.hash_by
    given = [name for name in by.__struct_fields__ if getattr(by, name) not in (None, False)]
    if len(given) != 1:
        what = " and ".join(given) if given else "none"
        return Invalid("hash_by", f"expected exactly one of header, cookie, client and path, got {what}")
    for name, value in (("header", by.header), ("cookie", by.cookie)):
        if value is not None and not _TOKEN.match(value):
            return Invalid(f"hash_by.{name}", f"{_shown(value)} is no name of a {name}")
    return None if balance.sticky is None else _invalid_sticky(balance.sticky)


def _invalid_sticky(sticky: Sticky) -> Invalid | None:
    if sticky.cookie is not None and not _TOKEN.match(sticky.cookie):
        return Invalid("sticky.cookie", f"{_shown(sticky.cookie)} is no name of a cookie")
    if sticky.cookie is not None and sticky.cookie.startswith("__") and not sticky.secure:
        return Invalid("sticky.cookie", f"browsers refuse {_shown(sticky.cookie)} without `secure`")
    if sticky.same_site == "none" and not sticky.secure:
        return Invalid("sticky.same_site", "browsers refuse a cookie with SameSite=None without `secure`")
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…")
