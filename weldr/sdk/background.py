"""One event loop in a thread of its own, for all registrations of a process, for as long as that lives.

It is never closed: gRPC may have events for a loop after its last channel was closed, and complains loudly
about a closed one. A fork of the process has no such thread and cannot have one: gRPC does not survive a fork.
"""

from __future__ import annotations

import asyncio
import os
import threading

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0


class ForkedProcessError(RuntimeError):
    """This process was forked from one that had registered itself already, and cannot register."""

    def __init__(self) -> None:
        super().__init__(
            "this process was forked from one that had called weldr.register, and gRPC does not survive that: "
            "register after the fork, in each process by itself"
        )


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop, running. To be used from other threads: `asyncio.run_coroutine_threadsafe`.

    Raises `ForkedProcessError`.
    """
    global _loop, _pid
    with _lock:
        if _loop is not None and _pid != os.getpid():
            raise ForkedProcessError
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _pid = os.getpid()
            threading.Thread(target=_loop.run_forever, name="weldr", daemon=True).start()
        return _loop
