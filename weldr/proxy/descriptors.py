"""The descriptors of a worker, and how clients and backends share them.

A client takes one, and one more for its backend only while it has a request. So clients may take all but a
reserve, and of that less the more requests there are. Connections that are kept for the next request give way
to both. When nothing is left, a request that needs a new connection is answered 503, and no client is accepted
until there is room again.
"""

from __future__ import annotations

import contextlib
import os
import resource

_OWN = 64
"""For the listening sockets, the channel, the log and the event loop, and what comes between two sweeps; ..."""
_OWN_BUT_LISTENING = 32
"""... where there are many listening sockets, beside these."""
_MOST = 1 << 20
_RESERVE = 1024
_RESERVED_PART = 4
_FEW = 256
_OPEN = "/proc/self/fd"


def raise_soft_limit(listening: int) -> int:
    """Allow this process as many descriptors as the system lets it; return how many connections they do for.

    `listening` is how many the listening sockets take.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(2, soft - max(_OWN, listening + _OWN_BUT_LISTENING))


def for_clients(connections: int, in_flight: int) -> int:
    """Of so many connections in all how many may be clients', with so many requests in flight."""
    reserve = min(_RESERVE, connections // _RESERVED_PART)
    return max(1, connections - max(reserve, in_flight))


def for_kept(connections: int, clients: int, in_flight: int) -> int:
    """How many may be connections to backends that have no request."""
    return max(0, connections - clients - in_flight)


class OpenDescriptors:
    """How many this process has open: found out in no time, however many they are."""

    def __init__(self) -> None:
        self._others = 0
        """Beside connections, when there were few of these."""

    def count(self, connections: int) -> int:
        """The number, with so many `connections` among them; 0 if the system does not tell."""
        try:
            # Kernels before 6.2 say 0 here: those make a list, which takes 40 ms for 20,000 of them.
            told = os.stat(_OPEN).st_size
            if told:
                return told
            if connections < _FEW:
                self._others = len(os.listdir(_OPEN)) - 1 - connections
        except OSError:
            return 0
        return connections + self._others
