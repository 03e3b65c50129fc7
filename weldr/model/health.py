"""Health: how a service's backends are checked, when failing ones are spared, and what is known of each.

Three words on one backend, each from who can know it: its *standing*, by the manager's active checks; whether
it is *ejected*, by the failures that a worker sees; and its lease. An operator's drain is no matter of health,
and nothing here overrules it.
"""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

BackendKey = tuple[str, str, str, int]
"""Service, the backend's id, host and port: what health belongs to. Two services never share it, and a backend
that moves begins anew.
"""

Interval = Annotated[float, msgspec.Meta(ge=0.1, le=86_400)]
CheckTimeout = Annotated[float, msgspec.Meta(ge=0.01, le=3_600)]
Threshold = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
ThresholdOrNever = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Ejected = Annotated[float, msgspec.Meta(ge=0.1, le=86_400)]

_STATUS = r"[1-5]\d\d(?:-[1-5]\d\d)?"
_STATUSES = re.compile(rf"{_STATUS}(?:,{_STATUS})*\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}\Z")
_TARGET = re.compile(r"/[\x21-\x7e]*\Z")
_HOST = re.compile(r"[A-Za-z0-9._\-:\[\]]{1,300}\Z")
_MAX_TEXT = 1024


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the manager asks each backend of a service whether it works. Without it, nobody asks."""

    type: Literal["http", "tcp"] = "http"
    """Whether a request has to be answered, or a connection to be taken."""
    method: str = "GET"
    """Of the request."""
    path: str = "/"
    """With the query, if there is one."""
    host: str | None = None
    """The Host field; the backend's own address if `None`."""
    port: Port | None = None
    """Where to ask, if that is not where requests go."""
    status: str = "200-399"
    """What a good answer may have: statuses and ranges with commas between."""
    body: str | None = None
    """What the first 64 KiB of a good answer's body have in them."""
    interval_s: Interval = 10.0
    """From one check of a backend to the next."""
    timeout_s: CheckTimeout = 2.0
    """From the beginning of the connection to all of the answer that is read."""
    fall: Threshold = 3
    """How many failures in a row put a backend out of rotation."""
    rise: Threshold = 2
    """How many passes in a row put it back."""
    require_check: bool = False
    """Whether a new backend gets no request before it has passed once."""

    def accepts(self, status: int) -> bool:
        """Whether an answer with this status passes."""
        for part in self.status.split(","):
            first, _, last = part.partition("-")
            if int(first) <= status <= int(last or first):
                return True
        return False


class Ejection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When a worker spares a backend whose requests fail, and for how long. Each worker by what it sees itself.

    A failure is a connection that cannot be made, one that breaks, an answer that is none or does not come in
    time, or a status from 500 on.
    """

    consecutive_failures: ThresholdOrNever = 5
    """So many in a row eject; 0 never."""
    failure_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """This share of the requests within `window_s` ejects, ..."""
    minimum_requests: ThresholdOrNever = 20
    """... if there were as many; 0 never."""
    window_s: Ejected = 10.0
    """Over which failures and requests are counted for `failure_rate`."""
    first_s: Ejected = 10.0
    """How long the first time takes. The second in a row takes twice as long, the third three times, ..."""
    longest_s: Ejected = 300.0
    """... up to this, which also bounds the rest that a backend gets by 503 and Retry-After."""
    max_share: Share = 0.5
    """No more of a service's backends are spared, those included that do not pass their checks; of two or more
    one may always be, unless this is 0.
    """


class Standing(StrEnum):
    """What the manager's checks say of a backend."""

    UP = "up"
    """It is used. Also while nothing is known."""
    WAITING = "waiting"
    """It has to pass a check first. Never used, whatever else is wrong."""
    DOWN = "down"
    """It does not pass, and is used only when too few do."""


class HealthChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The value of `health/<instance>/<service>/<id>`: the last change of health that an instance saw, and
    why.
    """

    state: Literal["up", "down", "ejected", "resting", "expired"]
    reason: str
    address: str
    at: datetime


class Invalid(msgspec.Struct, frozen=True):
    """What cannot be meant: the field, and one line."""

    field: str
    reason: str


def invalid_check(check: HealthCheck) -> Invalid | None:
    """What the types alone cannot tell of a check; `None` if all is well."""
    if not _TOKEN.match(check.method):
        return Invalid("method", f"{_shown(check.method)} is no HTTP method")
    if check.method in ("CONNECT", "TRACE"):
        return Invalid("method", f"{check.method} cannot be used for a check: use GET, HEAD or OPTIONS")
    if not _TARGET.match(check.path) or len(check.path) > _MAX_TEXT:
        return Invalid(
            "path",
            f"{_shown(check.path)} is no path: expected a slash and ASCII without spaces or controls, "
            f"at most {_MAX_TEXT} characters",
        )
    if check.host is not None and not _HOST.match(check.host):
        return Invalid(
            "host", f"{_shown(check.host)} is no host: expected a name or an address, with a port or not"
        )
    if not _STATUSES.match(check.status):
        return Invalid("status", f"{_shown(check.status)} is no list of statuses: expected 200-399 or 200,204")
    if check.body is not None and not 0 < len(check.body) <= _MAX_TEXT:
        return Invalid("body", f"the text to find has {len(check.body)} characters: expected 1 to {_MAX_TEXT}")
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")
