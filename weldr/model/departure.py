"""Why a backend's key went: what a watcher cannot see in the event itself. Pure.

Who leaves in good order marks itself as draining, deletes its key, and only then ends its lease. So a key that
went with its lease, without that mark, expired; and one whose lease still lives was removed by somebody.
"""

from __future__ import annotations

from enum import StrEnum

from weldr.model.values import Backend


class Departure(StrEnum):
    """How a backend left."""

    DRAINED = "drained"
    """It had been marked as draining before."""
    EXPIRED = "expired"
    """Nobody kept its lease alive, or somebody revoked it."""
    REMOVED = "removed"
    """Its key was deleted while it lived."""


def departure_of(value: object, lease: int, lease_lives: bool | None) -> Departure | None:
    """How a backend left that had this value and this lease, 0 for none; `None` as long as that depends on
    whether the lease lives, and nobody has said so.
    """
    if isinstance(value, Backend) and value.draining:
        return Departure.DRAINED
    if not lease:
        return Departure.REMOVED
    if lease_lives is None:
        return None
    return Departure.REMOVED if lease_lives else Departure.EXPIRED
