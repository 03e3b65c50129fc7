"""What two managers of one instance say to each other when one takes over from the other.

They may be of different versions: a member that one does not know is left out, one that the other does not send
has its default. `PROTOCOL` changes when that is not enough.

| from | frame | means |
| --- | --- | --- |
| old | `Offer` | these descriptors are yours as soon as I say so, or am gone |
| old | `Hints` | with these candidacies, if I am gone |
| new | `Ready` | my workers serve the catalog, and do not accept yet; of the descriptors I take these |
| new | `Refusal` | I cannot |
| old | `KnownDown` | these backends do not pass their checks |
| old | `Takeover` | from now on you are this instance: I have stopped acting for it |
| new | `Done` | I act for it |
"""

from __future__ import annotations

import msgspec

from weldr.model.health import BackendKey
from weldr.model.vips import Vip

PROTOCOL = 1


class OfferedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The listening sockets of one address."""

    asked: str
    address: str
    descriptors: list[int]
    """In the order in which they began to listen."""
    activated: bool = False


class Offer(msgspec.Struct, frozen=True, kw_only=True, tag="offer"):
    """See the module."""

    protocol: int
    version: str
    pid: int
    instance: str
    prefix: str
    listen: list[OfferedGroup]
    admin: list[OfferedGroup]
    control: int | None = None
    """The socket for commands on this machine."""
    peers: int | None = None
    """The socket for messages between instances."""
    ready_by_s: float | None = None
    """By the clock that processes share: whoever is not ready then says what is missing."""


class Candidacy(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the queue for a virtual IP."""

    vip: str
    value: Vip
    lease: int
    ttl_s: int
    """As granted."""
    token: int


class Hints(msgspec.Struct, frozen=True, kw_only=True, tag="hints"):
    """See the module."""

    candidacies: list[Candidacy]


class HeldAddress(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is in place. Times are by the clock of leadership, which all processes share."""

    token: int
    window_end_s: float
    expires_s: float
    confirmed_s: float
    promised_until_s: float | None = None
    """`None`: there was no promise."""
    placed: bool = True
    """Whether what puts it in place has been done, as far as that takes time."""


class HandedVip(msgspec.Struct, frozen=True, kw_only=True):
    """All that one manager has to know of another's virtual IP to go on with it."""

    candidacy: Candidacy
    held: HeldAddress | None = None
    last_held: int = 0
    left_behind_until_s: float = 0.0
    """See `Holding`; by the monotonic clock of this host."""
    busy: bool = False
    unsure_revision: int = 0
    unsure: list[tuple[str, str]] = []
    """The peers that its record may name, each with its machine."""
    state: str = ""
    since: str = ""
    reason: str = ""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What was promised and refused to holders of a virtual IP."""

    vip: str
    until_s: float
    refused_token: int
    known_token: int
    promised_token: int = 0
    past_token: int = 0


class PeerLife(msgspec.Struct, frozen=True, kw_only=True):
    """What makes this life of the instance known to the others."""

    address: str
    boot: str
    sequence: int
    """Of the next message."""
    last_sequences: dict[str, tuple[str, int]]


class VipsState(msgspec.Struct, frozen=True, kw_only=True):
    """All virtual IPs of the instance."""

    vips: list[HandedVip]
    words: list[Word]
    boot_s: float
    restored_s: float | None = None
    """`None`: etcd was never found to be restored."""
    restored_revision: int | None = None
    life: PeerLife | None = None


class Down(msgspec.Struct, frozen=True, kw_only=True):
    """A backend that does not pass its checks."""

    key: BackendKey
    reason: str


class Takeover(msgspec.Struct, frozen=True, kw_only=True, tag="takeover"):
    """See the module."""

    vips: VipsState


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """See the module."""

    version: str
    taken: list[int]


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    """See the module. One line."""

    reason: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """See the module."""


class KnownDown(msgspec.Struct, frozen=True, kw_only=True, tag="known_down"):
    """Old, with the offer: the backends that are down, so that no request goes there to find it out again."""

    backends: list[Down]


FromOld = Offer | Hints | KnownDown | Takeover
FromNew = Ready | Refusal | Done
