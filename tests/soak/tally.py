"""What became of the requests, and which failures a crash explains."""

from __future__ import annotations

import time
from collections import Counter

_NOTICED_WITHIN_S = 1.0
"""For how long after a crash a request may still reach the dead: until the kernel's word has been read."""

_ERRORS_KEPT = 20


class Kills:
    """When each backend was killed."""

    def __init__(self) -> None:
        self._moments: list[tuple[float, str]] = []

    def add(self, name: str) -> None:
        self._moments.append((time.monotonic(), name))

    def __len__(self) -> int:
        return len(self._moments)

    def explain(self, started_s: float, name: str | None) -> bool:
        """Whether the end of that backend, any if its name is not known, explains a failure until now."""
        return any(
            moment + _NOTICED_WITHIN_S >= started_s and (name is None or name == killed)
            for moment, killed in self._moments[-50:]
        )


class Tally:
    """Requests by kind and outcome."""

    def __init__(self, kills: Kills) -> None:
        self.kills = kills
        self.good: Counter[str] = Counter()
        self.explained: Counter[str] = Counter()
        """Failures of requests that were in flight to a backend when it was killed."""
        self.errors: list[str] = []
        self.error_count = 0

    def failure(self, what: str, started_s: float, *, name: str | None = None, detail: str = "") -> None:
        """A request failed in a way that a crash may explain."""
        if self.kills.explain(started_s, name):
            self.explained[what] += 1
        else:
            self.error(f"{what}, and no backend was killed meanwhile: {detail}")

    def error(self, what: str) -> None:
        """Something that nothing explains."""
        self.error_count += 1
        if len(self.errors) < _ERRORS_KEPT:
            self.errors.append(what)
