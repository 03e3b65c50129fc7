"""How many requests a client may send: a bucket for each address, and no more buckets than that."""

from __future__ import annotations

from collections import OrderedDict

REQUESTS_PER_S = 500.0
BURST = 1000.0
_MOST_CLIENTS = 1024


class Rates:
    """A token bucket for each client. When there are too many, the one unused for longest begins anew."""

    def __init__(self, per_s: float = REQUESTS_PER_S, burst: float = BURST) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, now_s: float) -> float:
        """Take one request from a client's bucket: 0, or the seconds after which there will be one."""
        left, seen_s = self._clients.pop(client, (self._burst, now_s))
        left = min(self._burst, left + (now_s - seen_s) * self._per_s)
        allowed = left >= 1
        self._clients[client] = (left - 1 if allowed else left, now_s)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_s
