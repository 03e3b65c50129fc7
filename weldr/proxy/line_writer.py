"""Lines to a descriptor, never in the way of a request.

A thread writes. What it has not written yet is bounded; beyond that lines are dropped and counted, as they are
when the descriptor takes nothing: a full disk or a pipe that nobody reads harms nobody but the log.
"""

from __future__ import annotations

import os
import threading
from collections import deque

_MOST_QUEUED_BYTES = 4 * 1024 * 1024
WRITE_BYTES = 4096
"""Pipes take so much at once or nothing (PIPE_BUF): lines of several workers do not mix."""
_EAGER_BYTES = 64 * 1024


class LineWriter:
    """Owner of what waits for the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._put_bytes = 0
        # Written by the thread alone, as the one above is by the event loop alone.
        self._gone_bytes = 0
        self._dropped = 0
        self._failed = 0
        self._told = 0
        self._is_torn = False
        """Whether the last line is only there in part: the disk became full in its midst."""
        self._work = threading.Event()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def take_dropped(self) -> int:
        """How many lines were dropped since the last call."""
        dropped = self._dropped + self._failed
        since, self._told = dropped - self._told, dropped
        return since

    def write(self, line: bytes) -> None:
        """Write `line`, which ends with a line feed, some time after the next `flush`."""
        queued = self._put_bytes - self._gone_bytes
        if queued + len(line) > _MOST_QUEUED_BYTES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._put_bytes += len(line)
        if queued > _EAGER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Let the thread write what there is."""
        if not self._lines:
            return
        if self._thread is None:
            thread = threading.Thread(target=self._write_all, name="access-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No more threads are allowed (`TasksMax`, `pids.max`) for now. The next call tries again.
                return
            self._thread = thread
        self._work.set()

    def close(self, timeout_s: float) -> None:
        """Write what there is, which is the last; wait for that no longer than this."""
        self._is_over = True
        self.flush()
        if self._thread is not None:
            self._work.set()
            self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while not self._is_over or self._lines:
            self._work.wait()
            self._work.clear()
            while self._lines:
                self._write_some()

    def _write_some(self) -> None:
        lines = [self._lines.popleft()]
        size = len(lines[0])
        while self._lines and size + len(self._lines[0]) <= WRITE_BYTES:
            lines.append(self._lines.popleft())
            size += len(lines[-1])
        text = b"".join(lines)
        data = memoryview(b"\n" + text if self._is_torn else text)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._is_torn = bool(data)
        except OSError:
            self._failed += len(lines)
        self._gone_bytes += size
