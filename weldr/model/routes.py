"""The value of `routes/<name>`: which requests a route takes, and what becomes of them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from weldr.model.resilience import Retries
from weldr.model.timeouts import UpstreamTimeouts

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Text = Annotated[str, msgspec.Meta(max_length=8192)]
FieldName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
FieldValue = Text
Networks = Annotated[list[str], msgspec.Meta(max_length=1000)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A condition on the value of a field or a parameter. Exactly one member is given."""

    exact: Text | None = None
    """The whole value."""
    regex: Text | None = None
    """Matches the whole value."""
    present: bool | None = None
    """Whether it is there at all."""


Conditions = Annotated[dict[FieldName, Text | Match], msgspec.Meta(max_length=32)]
"""By name; a text is the same as `exact`."""


class SplitBy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What keeps a client at one of several services. Exactly one of `cookie` and `header` is given."""

    cookie: FieldName | None = None
    """The name of a cookie, whose value decides."""
    header: FieldName | None = None
    """The name of a field, whose value decides."""
    set_cookie: bool = False
    """With `cookie`: whether clients without it get one from weldr, a random number that says nothing of them.
    Not for a cookie that the service sets itself.
    """


class Redirect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An answer that sends the client elsewhere. What is not given stays as it was asked for."""

    scheme: Literal["http", "https"] | None = None
    """Without it `http`."""
    host: Name | None = None
    """With a port, if need be."""
    path: Text | None = None
    """In place of path and query."""
    status: Literal[301, 302, 303, 307, 308] = 302
    """301 and 308 are for good; 307 and 308 keep the method."""


class FixedResponse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An answer of weldr's own."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200
    """Of the response."""
    body: Annotated[str, msgspec.Meta(max_length=65_536)] = ""
    """Its content."""
    content_type: FieldValue = "text/plain; charset=utf-8"
    """What the content is."""


class FieldEdits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Changes to the fields of a message: first `remove`, then `set`, then `add`."""

    remove: Annotated[list[FieldName], msgspec.Meta(max_length=64)] = []
    """Names of fields that go."""
    set: Annotated[dict[FieldName, FieldValue], msgspec.Meta(max_length=64)] = {}
    """In place of all fields of these names."""
    add: Annotated[dict[FieldName, FieldValue], msgspec.Meta(max_length=64)] = {}
    """Beside fields of these names that are there."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A copy of a share of the requests for another service, whose answers nobody gets."""

    service: Name
    """Who gets the copies."""
    share: Share = 1.0
    """Of the requests."""


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many requests may come: a token bucket. Each worker grants its equal share of the instance's."""

    requests_per_s: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
    """On average."""
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    """How many at once; as many as come in a second, if not given."""
    by: Literal["route", "client"] = "route"
    """One bucket for all, or one for each client address."""
    by_header: FieldName | None = None
    """One bucket for each value of this field, in place of `by`."""


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which requests it takes, and what becomes of them. A condition that is not given takes everything.

    Exactly one of `service`, `services`, `redirect` and `response` is given, and at most one kind of `path`.
    """

    host: str | None = None
    """A host name, or `*.` and a host name for every name below it; without a port."""
    path: str | None = None
    """A prefix by whole segments: `/cart` takes `/cart` and `/cart/x`, not `/cartoon`."""
    path_exact: str | None = None
    """The whole path."""
    path_glob: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """`?` is one character and `*` any number of them, both but a slash; `**` is any number of any."""
    path_regex: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """In RE2's syntax; matches the whole path."""
    methods: Annotated[list[Name], msgspec.Meta(max_length=32)] = []
    """One of these; any if there is none."""
    headers: Conditions = {}
    """All of these hold. A text is the field's whole value; several fields of a name are joined by commas."""
    query: Annotated[dict[Text, Text | Match], msgspec.Meta(max_length=32)] = {}
    """All of these hold, for the first parameter of each name."""
    clients: Networks = []
    """Networks that the client's address is in one of."""
    priority: Annotated[int, msgspec.Meta(ge=-1_000_000_000, le=1_000_000_000)] = 0
    """Higher wins, before anything else is compared."""

    service: Name | None = None
    """Who answers."""
    services: Annotated[dict[Name, Weight], msgspec.Meta(max_length=64)] = {}
    """Several, with their weights."""
    split_by: SplitBy | None = None
    """Keeps clients that send it at one of the `services`; others are split by chance."""
    redirect: Redirect | None = None
    """The client is sent elsewhere."""
    response: FixedResponse | None = None
    """weldr answers itself."""

    strip_prefix: str | None = None
    """Taken from the path before it is forwarded, by whole segments."""
    add_prefix: str | None = None
    """Put before the path, after that."""
    request_headers: FieldEdits = FieldEdits()
    """What backends see otherwise than it came."""
    response_headers: FieldEdits = FieldEdits()
    """What clients see otherwise than it came."""
    timeouts: UpstreamTimeouts = UpstreamTimeouts()
    """What is not given here is the service's."""
    retries: Retries | None = None
    """In place of the service's, but for the budget, which is the service's in any case."""
    mirror: Mirror | None = None
    """A copy for another service."""
    allow: Networks = []
    """If given, other clients get a 403."""
    deny: Networks = []
    """These clients get a 403."""
    rate_limit: RateLimit | None = None
    """Beyond it, a 429."""
    max_body_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] | None = None
    """Of a request; beyond it, a 413."""

    @property
    def service_names(self) -> list[str]:
        """Every service that it names as a target, the mirror's too."""
        names = [self.service] if self.service is not None else list(self.services)
        return [*names, self.mirror.service] if self.mirror is not None else names
