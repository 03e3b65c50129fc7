"""A test of real time is tried again, and a defect fails it all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CASES = """
import time
import pytest
from tests.support import real_time
from tests.support.real_time import InexcusableError

real_time.waited_s = {waited_s}
tries = []

@pytest.fixture
def begun():
    tries.append("begun")

@pytest.mark.real_time
def test_once_held_up(begun):
    assert len(tries) == 2

@pytest.mark.real_time
def test_defect(begun):
    raise AssertionError

@pytest.mark.real_time
def test_inexcusable(begun):
    raise InexcusableError

@pytest.mark.real_time
def test_fixture_that_fails(none_of_this_name):
    pass

def test_any_other(begun):
    raise AssertionError

def test_count():
    assert len(tries) == {tries}
"""


@pytest.mark.parametrize(
    ("waited_s", "tries", "outcome"),
    [
        # Each further try is told.
        ("lambda: 2 * time.monotonic()", "2 + 3 + 1 + 1", "3 failed, 2 passed, 3 warnings, 1 error"),
        ("lambda: 0.0", "1 + 1 + 1 + 1", "4 failed, 1 passed, 1 error"),
    ],
    ids=["a busy machine", "an idle one"],
)
def test_a_test_of_real_time_is_tried_again_from_its_fixtures_on(
    tmp_path: Path, waited_s: str, tries: str, outcome: str
) -> None:
    (tmp_path / "test_cases.py").write_text(CASES.format(waited_s=waited_s, tries=tries))
    options = ["-p", "no:cacheprovider", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout
