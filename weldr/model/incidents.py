"""What befell the requests of a service beside being answered: small, and merged by adding. Pure."""

from __future__ import annotations

import msgspec


class Incidents(msgspec.Struct, kw_only=True):
    """Counts of one service. What belongs to none, as a limit of a route without one, is at an empty name."""

    service: str
    retries: int = 0
    """Requests that were given to another backend after a failure."""
    budget_exhausted: int = 0
    """Requests that would have been sent again, or hedged, but for the retry budget."""
    repeats: int = 0
    """Requests that were sent once more since the kept connection they were sent on had ended."""
    connect_failures: int = 0
    """Connections to a backend that could not be made."""
    hedges: int = 0
    """Requests that were sent to a second backend, too."""
    hedges_won: int = 0
    """Those of them that the second backend answered first."""
    ejections: int = 0
    """Backends that were taken out for their failures, each time."""
    rests: int = 0
    """Backends that were taken out since they asked for that, each time."""
    circuit_openings: int = 0
    """How often the circuit breaker has opened."""
    circuit_refused: int = 0
    """Requests that it did not let through."""
    queued: int = 0
    """Requests that had to wait for room."""
    shed: int = 0
    """Requests for which there was no room, nor soon enough."""
    deadlines_passed: int = 0
    """Requests that took longer than they may in all."""
    rate_limited: int = 0
    """Requests beyond a route's rate limit."""
    mirrored: int = 0
    """Copies that were sent here."""
    mirrors_dropped: int = 0
    """Copies that were not, since that would have been too much."""

    def add(self, other: Incidents) -> None:
        """Count what `other` counted, too."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


COUNTS = tuple(name for name in Incidents.__struct_fields__ if name != "service")
"""The names of all counts."""
