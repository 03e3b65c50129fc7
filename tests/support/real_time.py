"""Tests of spans of real time: that one thing comes within so many seconds, or another before that.

They need every process to run whenever it wants to. A machine that has too much to do holds one of them up for
seconds now and then, and then a lease lapses or an answer is late, whatever the code is like; no margin that a
suite has the time for is wider than that. So a test with the mark `real_time` that fails is tried again, from
its fixtures on, twice at most, if the kernel says that processes had to wait for a CPU for a good part of it.
A defect fails it each time, and at once where the machine has nothing else to do; what may not happen even once
is an `InexcusableError`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

MARK = "real_time"
TRIES = "WELDR_TEST_TRIES"
"""The variable that says how often a test may be tried."""
_TRIES = 3
_BUSY_SHARE = 0.2


class InexcusableError(AssertionError):
    """No hold-up of a process explains this: the test has failed."""


def is_inexcusable(call: pytest.CallInfo[None]) -> bool:
    return call.excinfo is not None and isinstance(call.excinfo.value, InexcusableError)


def waited_s() -> float:
    """For how long, in all, some process had to wait for a CPU; where the kernel does not tell: always."""
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return time.monotonic()
    return int(line.rpartition("total=")[2]) / 1e6


def run(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run a marked test as pytest does, as often as it may be tried. Each failure that was not the last is told
    among the warnings.
    """
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(int(os.environ.get(TRIES, _TRIES)))):
        began_s, waited_before_s = time.monotonic(), waited_s()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        busy = waited_s() - waited_before_s >= _BUSY_SHARE * (time.monotonic() - began_s)
        failed = [report for report in reports if report.failed]
        if not left or not failed or not busy or not all(_is_excusable(report) for report in failed):
            break
        item.warn(pytest.PytestWarning(f"tried again, since it failed: {failed[0].longreprtext[-2000:]}"))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _is_excusable(report: pytest.TestReport) -> bool:
    return report.when == "call" and not getattr(report, "inexcusable", False)
