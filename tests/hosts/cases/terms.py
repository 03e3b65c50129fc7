"""What all cases speak of."""

from __future__ import annotations

from typing import Any

Value = dict[str, Any]
"""Of `vips/web`."""
STAYS_S = 4.0
"""Longer than any lease, window or promise at the defaults."""
HEARD_S = 1.0
"""By then each instance has heard the others' heartbeats: whoever was never heard is not missed."""
UNSEATED_S = 2.9
"""By then a silent holder has been unseated at the defaults, and not yet lost its lease."""
LAPSED_S = 5.0
"""Much longer than an address lasts without a word from anybody."""
LEASED_S = 2.5
"""Until then no lease ends, whenever in its life its holder was cut off."""
AT_ONCE_S = 1.5
"""Less than the time after which anything but `fast` claims: a window, but for a renewal."""
