"""SIGTERM, in programs that do not handle it: every registration leaves, then the program dies as before.

The program goes on meanwhile, to answer what is in flight.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

_AGAIN_S = 0.1

_leave: dict[object, Callable[[], None]] = {}
_asked = False
_pid = 0


def leave_on_sigterm(registration: object, leave: Callable[[], None]) -> None:
    """Have `leave` called on SIGTERM, which is to end in `has_left`; not where somebody else handles that."""
    global _pid
    if _pid != os.getpid():
        # The registrations of the program that this one was forked from are not ours.
        _leave.clear()
        _pid = os.getpid()
    _leave[registration] = leave
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def has_left(registration: object) -> None:
    """The registration is no more; from any thread."""
    _leave.pop(registration, None)
    if _asked and not _leave:
        threading.Thread(target=_end_program, name="weldr-end", daemon=True).start()


def _end_program() -> None:
    # Again and again: a signal that arrives just before the main thread blocks in a system call is handled
    # only after that, and it is the main thread alone that can take our handler away.
    while signal.getsignal(signal.SIGTERM) in (_on_sigterm, signal.SIG_DFL):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN_S)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _asked
    leaving = list(_leave.values()) if os.getpid() == _pid else []
    if not leaving:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _asked = True
    for leave in leaving:
        leave()
