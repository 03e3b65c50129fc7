"""Ports of 127.0.0.1 for servers that a test starts, stops and starts again."""

from __future__ import annotations

import contextlib
import os
import random
import socket

# Below the kernel's range for outgoing connections: the port of a stopped server stays free for its return.
_PORTS = range(12_000, 30_000)
_SHARES = 8
# Tests that run beside each other (pytest-xdist calls their processes gw0, gw1, …) keep to shares of their own.
_share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
_left = list(_PORTS[_share::_SHARES])
random.shuffle(_left)


def free_port() -> int:
    """A port that nothing listens on, that no outgoing connection takes and that no one else was given."""
    while _left:
        port = _left.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")
