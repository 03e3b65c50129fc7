"""How often the same thing may be said. Pure: it is told the time."""

from __future__ import annotations

_INTERVAL_S = 30.0
_MAX_KEYS = 1024


class LogLimit:
    """Allows each key once in a while, and counts what it did not allow."""

    def __init__(self, interval_s: float = _INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._allowed_s: dict[str, float] = {}
        self._suppressed = 0

    def allows(self, key: str, now_s: float) -> bool:
        """Whether `key` has not been allowed for the interval."""
        last_s = self._allowed_s.get(key)
        if last_s is not None and now_s - last_s < self._interval_s:
            self._suppressed += 1
            return False
        if len(self._allowed_s) >= _MAX_KEYS:
            self._forget(now_s)
        self._allowed_s[key] = now_s
        return True

    def _forget(self, now_s: float) -> None:
        self._allowed_s = {
            key: last_s for key, last_s in self._allowed_s.items() if now_s - last_s < self._interval_s
        }
        while len(self._allowed_s) >= _MAX_KEYS:
            del self._allowed_s[next(iter(self._allowed_s))]

    def suppressed(self) -> dict[str, object]:
        """How many were not allowed since the last call, as a field for the log; empty if none."""
        count, self._suppressed = self._suppressed, 0
        return {"suppressed": count} if count else {}
