"""Where the command begins: what signals do to `weldr run` before the manager takes them, and after it.

Loading the manager takes about half a second. Left alone, a signal to upgrade would end the process meanwhile,
and Ctrl-C leave a traceback. Nothing is loaded here that is not needed for that. What is set are functions,
since what is ignored or held back would stay so in every process that is started here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from types import FrameType

_STANDARD_ERROR = 2


def main() -> None:
    """Entry point of `weldr`."""
    if os.getpid() != 1 and sys.argv[1:2] == ["run"]:
        _take_signals()
    from weldr.cli.main import main as run_command

    run_command()


def _take_signals() -> None:
    """Until the manager's event loop does (`weldr/control/life.py`)."""
    signal.signal(signal.SIGUSR2, _ignore)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def leave_signals() -> None:
    """The event loop is closed, and nothing is left to upgrade or to stop in order."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a traceback


def _ignore(number: int, frame: FrameType | None) -> None:
    _say("a signal to upgrade was ignored: it has only begun to start")


def _stop(number: int, frame: FrameType | None) -> None:
    # At once: an exception could be taken for one of whatever is just being loaded.
    _say("told to stop before anything was served")
    os._exit(0)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        # Never where it would wait: whoever does not read standard error would keep this process from ending.
        if select.select([], [_STANDARD_ERROR], [], 0)[1]:
            os.write(_STANDARD_ERROR, f"weldr: {text}\n".encode())
