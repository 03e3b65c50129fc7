"""For how long a backend asks to be left alone (RFC 9110, section 10.2.3). Pure."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

_FIELD = re.compile(rb"\r\n(?i:retry-after):[ \t]*([^\r\n]{1,40})")


def retry_after_s(lines: bytes, now: float) -> float | None:
    """What the `Retry-After` among these field lines asks for; `None` without one that says more than now.

    `now` is the wall clock, which a date is compared with.
    """
    found = _FIELD.search(lines)
    if found is None:
        return None
    value = found[1].strip()
    if value.isdigit():
        wait_s = float(value)
    else:
        try:
            wait_s = parsedate_to_datetime(value.decode("ascii")).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return wait_s if wait_s > 0 else None
