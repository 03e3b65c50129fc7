"""docs/reference.md says what the types say, of every member of every value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_is_what_the_types_say() -> None:
    command = [sys.executable, "-P", str(ROOT / "scripts" / "reference.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
