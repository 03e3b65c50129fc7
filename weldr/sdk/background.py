"""One event loop in a thread of its own, for all registrations of a process, for as long as that lives.

It is never closed: gRPC may have events for a loop after its last channel was closed, and complains loudly
about a closed one. A fork of the process has no such thread, and gets its own when it needs one.
"""

from __future__ import annotations

import asyncio
import os
import threading

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_pid = 0


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop, running. To be used from other threads: `asyncio.run_coroutine_threadsafe`."""
    global _loop, _pid
    with _lock:
        if _loop is None or _pid != os.getpid():
            _loop = asyncio.new_event_loop()
            _pid = os.getpid()
            threading.Thread(target=_loop.run_forever, name="weldr", daemon=True).start()
        return _loop
