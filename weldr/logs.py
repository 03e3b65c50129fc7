"""Logging for every weldr program: JSON for machines, lines for people, and never in the way of the work.

Records go through a bounded queue to a thread that writes standard error: a full disk or a pipe that nobody
reads stops that thread, not an event loop. What the queue cannot take is dropped and counted, and the count is
logged as soon as there is room.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import select
import sys
import threading
import time
from datetime import UTC, datetime

from pythonjsonlogger.json import JsonFormatter

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "text")

_QUEUE_RECORDS = 10_000
_STANDARD_ERROR = 2
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(*, log_format: str, level: str, fields: dict[str, object] | None = None) -> None:
    """Send all logging of this process to standard error.

    `fields` are added to each record: what tells one process from another.
    """
    if log_format == "auto":
        log_format = "text" if on_terminal() else "json"
    formatter = _json_formatter(fields or {}) if log_format == "json" else _TextFormatter(fields or {})
    handler = _BoundedQueueHandler(queue.Queue(_QUEUE_RECORDS))
    threading.Thread(target=handler.write_all, args=(formatter,), name="log", daemon=True).start()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These libraries say at each attempt what weldr says once at each change of state.
    for noisy in ("asyncio", "aiohttp.access", "grpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def on_terminal() -> bool:
    """Whether a person reads standard error."""
    return sys.stderr is not None and os.isatty(_STANDARD_ERROR)


def flush(timeout_s: float = 1.0) -> None:
    """Wait until what was logged is written, at most this long. For the end of a process."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _BoundedQueueHandler):
            handler.drain(timeout_s)


class _BoundedQueueHandler(logging.handlers.QueueHandler):
    """Drops, and counts, what the queue cannot take."""

    def __init__(self, records: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(records)
        self._records = records
        self._dropped = 0
        self._is_torn = False
        """Whether the last line is only there in part: the disk became full in its midst."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Settle now what may be different when the record is written."""
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def write_all(self, formatter: logging.Formatter) -> None:
        """Write for ever. By the descriptor: whoever holds a lock of `logging` or of a stream while nobody
        reads would keep the process from ending."""
        failed = 0
        while True:
            record = self._records.get()
            if not self._write(formatter, record):
                failed += 1
            elif failed and self._write(
                formatter, _note("log records are lost: they could not be written", failed)
            ):
                failed = 0
            self._records.task_done()

    def _write(self, formatter: logging.Formatter, record: logging.LogRecord) -> bool:
        """Whether it was taken. A full disk, or a pipe that was closed, takes none."""
        line = f"{_formatted(formatter, record)}\n".encode("utf-8", "backslashreplace")
        data = memoryview(b"\n" + line if self._is_torn else line)
        try:
            # Where it was closed from the start, its number may be that of a socket by now.
            while data and sys.stderr is not None:
                try:
                    data = data[os.write(_STANDARD_ERROR, data) :]
                    self._is_torn = bool(data)
                except BlockingIOError:
                    # Not ours to change: who shares it has set it not to block.
                    select.select([], [_STANDARD_ERROR], [])
        except OSError:
            return False
        return True

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._dropped:
            note = _note("log records were dropped: nobody reads standard error fast enough", self._dropped)
            try:
                self._records.put_nowait(note)
            except queue.Full:
                self._dropped += 1
                return
            self._dropped = 0
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def drain(self, timeout_s: float) -> None:
        """Wait for the writing thread, without ever waiting for a reader that is not there."""
        deadline = time.monotonic() + timeout_s
        while self._records.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)


def _note(text: str, count: int) -> logging.LogRecord:
    level = {"levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({"name": __name__, "msg": text, "dropped": count} | level)


def _formatted(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The record as a line, or without its fields if they cannot be written: this must not end the thread."""
    try:
        return formatter.format(record)
    except Exception as error:
        bare = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        note = {"msg": record.msg, "unwritable": type(error).__name__}
        return formatter.format(logging.makeLogRecord(bare | note))


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _json_formatter(fields: dict[str, object]) -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields=fields,
        timestamp="time",
        json_ensure_ascii=False,
    )


class _TextFormatter(logging.Formatter):
    """`12:00:01.123 info    backend joined  service=default backend=b1`."""

    def __init__(self, fields: dict[str, object]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={_plain(value)}" for name, value in (_extra(record) | self._fields).items())
        line = f"{clock} {record.levelname.lower():7} {_plain(record.getMessage())}"
        if fields:
            line += f"  {fields}"
        if record.exc_text:
            line += "\n" + record.exc_text
        return line


def _plain(value: object) -> str:
    """One line of text: what a client or a key brought in cannot forge a second line or drive a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(value)
    )
