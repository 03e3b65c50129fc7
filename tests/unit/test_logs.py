"""Logs: JSON for machines, lines for people, and never in the way of the work."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_fields_that_cannot_be_written_cost_only_themselves(log_format: str) -> None:
    statements = """
class Odd:
    def __str__(self):
        raise RuntimeError
    __repr__ = __str__
logger.info("before", extra={"way": {("a", Odd()): 1}})
logger.info("after")
"""
    first, second = run(log_format, statements).stderr.splitlines()
    assert "before" in first
    assert "unwritable" in first
    assert "after" in second


def test_the_end_waits_for_a_record_that_is_being_made_into_a_line() -> None:
    statements = """
import time
class Slow:
    def __str__(self):
        time.sleep(0.3)
        return "slow"
logger.info("last words", extra={"way": Slow()})
time.sleep(0.1)
"""
    assert "last words  way=slow" in run("text", statements).stderr


def test_what_a_full_disk_did_not_take_is_counted_and_tears_no_later_line(tmp_path: Path) -> None:
    statements = """
import resource
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(100):
    logger.info("before", extra={"number": number})
logs.flush(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
logger.info("after")
"""
    with (tmp_path / "log").open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", f"{PROGRAM}{statements}logs.flush(10)", "json"], stderr=log, check=True
        )
    lines = (tmp_path / "log").read_text().splitlines()
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    assert len(whole) >= len(lines) - 1
    assert [record["message"] for record in whole[-2:]] == [
        "after",
        "log records are lost: they could not be written",
    ]
    assert whole[-1]["dropped"] == 100 - (len(whole) - 2)


def test_records_wait_for_a_reader_of_what_does_not_block() -> None:
    """As a terminal does not while another program that has it open wants it so."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    statements = "for number in range(5_000): logger.info('x', extra={'number': number})"
    program = subprocess.Popen(
        [sys.executable, "-c", f"{PROGRAM}{statements}\nlogs.flush(30)", "json"], stderr=write_end
    )
    # Until it is full.
    while select.select([], [write_end], [], 0)[1]:
        time.sleep(0.01)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as log:
        assert [json.loads(line)["number"] for line in log] == list(range(5_000))
    assert program.wait(30) == 0
