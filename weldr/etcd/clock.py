"""The clock that leadership is measured by."""

from __future__ import annotations

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_s() -> float:
    """Monotonic seconds, those that the machine was suspended for included, where the system counts them.

    A suspended laptop or host must not believe on waking that it still leads.
    """
    return time.clock_gettime(_CLOCK)
