"""Calls an application's function in a thread of its own, in order.

The loop that keeps the leases must not wait for it, and it may itself call what waits for that loop.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from weldr.sdk.registrar import RegistrationState

logger = logging.getLogger(__name__)

_MOST_WAITING = 1000

OnChange = Callable[[RegistrationState, str], None]


class Callbacks:
    """Hands changes of state to `on_change` until it is closed."""

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self._waiting: queue.Queue[tuple[RegistrationState, str] | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="weldr-on-change", daemon=True)
        self._thread.start()

    def tell(self, state: RegistrationState, reason: str) -> None:
        """Returns at once. If the function is that far behind, the change is not told."""
        try:
            self._waiting.put_nowait((state, reason))
        except queue.Full:
            logger.warning("on_change is too slow: a change was not told", extra={"state": str(state)})

    def close(self, timeout_s: float) -> None:
        """Wait until everything was told, but no longer than this; not if called by the function itself."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (told := self._waiting.get()) is not None:
            try:
                self._on_change(*told)
            except (Exception, SystemExit):
                logger.exception("the registration's on_change failed")
