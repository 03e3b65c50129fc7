"""`python -m weldr.control.leash PARENT_PID COMMAND…`: run a command that must not outlive its parent.

Linux sends the command SIGKILL when the parent dies, however it dies (prctl PR_SET_PDEATHSIG, which survives
exec). On other systems the command is just run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """See the module."""
    parent_pid, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the call above
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
