"""Logs: JSON for machines, lines for people, and never in the way of the work."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROGRAM = """
import logging, os, sys
from weldr import logs
logs.configure(log_format=sys.argv[1], level="info", fields={"process": "test"})
logger = logging.getLogger("weldr.x")
"""


def run(log_format: str, statements: str, **options: object) -> subprocess.CompletedProcess[str]:
    source = f"{PROGRAM}\n{statements}\nlogs.flush()\n"
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-c", source, log_format],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        **options,
    )


def test_a_json_record_has_time_level_message_and_fields() -> None:
    said = run("json", "logger.info('it moved', extra={'revision': 7})").stderr
    record = json.loads(said)
    assert record["message"] == "it moved"
    assert (record["level"], record["logger"], record["revision"]) == ("INFO", "weldr.x", 7)
    assert record["process"] == "test"
    assert record["time"].endswith("+00:00")


def test_auto_is_json_where_nobody_sits_at_a_terminal() -> None:
    json.loads(run("auto", "logger.info('x')").stderr)


def test_a_text_line_cannot_be_forged_by_what_a_client_sent() -> None:
    said = run("text", "logger.warning('odd', extra={'path': 'a\\n12:00 info all is well\\x1b[2J'})").stderr
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert "warning odd  path=a\\n12:00 info all is well\\x1b[2J process=test\n" in said


def test_records_below_the_level_are_not_written() -> None:
    assert run("json", "logger.debug('x')").stderr == ""


def test_a_reader_that_never_reads_blocks_nobody_and_what_was_dropped_is_counted() -> None:
    read_end, write_end = os.pipe()
    source = f"""{PROGRAM}
import time
started = time.monotonic()
for number in range(30_000):
    logger.info("record %d", number)
logs.flush(0.2)
print(time.monotonic() - started < 20, flush=True)
sys.stdin.readline()
for number in range(200):
    logger.info("later"); time.sleep(0.01)
logs.flush()
os._exit(0)
"""
    program = subprocess.Popen(
        [sys.executable, "-c", source, "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=write_end,
        text=True,
    )
    os.close(write_end)
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stdout.readline() == "True\n"
    program.stdin.write("go\n")
    program.stdin.flush()
    with os.fdopen(read_end) as reader:
        records = [json.loads(line) for line in reader]
    assert program.wait(30) == 0
    dropped = sum(record.get("dropped", 0) for record in records)
    written = sum(record["message"].startswith("record ") for record in records)
    later = sum(record["message"] == "later" for record in records)
    assert dropped > 0
    assert dropped + written + later == 30_000 + 200
