"""`python -m weldr.proxy`: a worker. Signals come first, and all that takes time to load behind them."""

import signal
import sys


def main() -> int:
    """Run a worker; return its exit status."""
    # These reach the whole process group or service, from a terminal or a supervisor: what happens then is for
    # the manager to say. A worker that drained on its own would leave its listening sockets without anybody who
    # accepts.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    from weldr.proxy import program

    return program.main()


if __name__ == "__main__":
    sys.exit(main())
