"""How many descriptors may be open: by a worker as many as the system has, where this process may say so, and
by this process as many as the clients of its admin port may need beside etcd and the workers.
"""

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


_OWN = 8192
_RESERVE = 512
"""For etcd, workers, checks and virtual IPs."""


def raise_own_limit() -> int:
    """Raise the soft limit of this process; how many descriptors the admin port may use of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OWN if hard == resource.RLIM_INFINITY else min(_OWN, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        soft = _OWN
    return max(soft - _RESERVE, soft // 2)
