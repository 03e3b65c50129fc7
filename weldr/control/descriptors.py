"""How many descriptors the workers may open: as many as the system has, where this process may say so."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_MOST = 1 << 20
_SYSTEM_LIMIT = Path("/proc/sys/fs/nr_open")


def raise_hard_limit() -> None:
    """Raise the hard limit of this process, which the workers inherit and go up to.

    It takes root or CAP_SYS_RESOURCE; without, the limit stays as it is, and workers take fewer clients.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST
    with contextlib.suppress(OSError, ValueError):
        most = min(_MOST, int(_SYSTEM_LIMIT.read_text()))
    if hard == resource.RLIM_INFINITY or hard >= most:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
