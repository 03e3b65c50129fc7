"""Running the conformance tests against a mutant: in a copy of the project, in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.mutants.mutant import Mutant

_ROOT = Path(__file__).parents[3]
_LIMIT_S = 2.0
"""What a test waits for at most, in place of its usual patience."""
_RUN_LIMIT_S = 240.0
_RESULT = re.compile(r"^tests/conformance/(\w+)\.py::(.+?) (PASSED|FAILED|ERROR)\b", re.MULTILINE)
_CUT = re.compile(r"[-\[](whole|bytewise)\]$")


@dataclass
class Run:
    """What came of it. A case is `module::test[id]`, whether it came whole or byte by byte."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    out_of_time: bool = False
    output: str = ""


def run(
    mutant: Mutant | None, modules: tuple[str, ...], *, bytewise: bool = False, first_only: bool = False
) -> Run:
    """Run these modules against the mutant, or against weldr as it is.

    Raises `StaleMutantError`.
    """
    with tempfile.TemporaryDirectory(prefix="weldr-mutant-") as name:
        folder = Path(name)
        _copy_project(folder)
        if mutant is not None:
            mutant.apply(folder / "weldr")
        command = [sys.executable, "-m", "pytest", "-v", "--tb=no", "-p", "no:cacheprovider"]
        command += ["-x"] if first_only else []
        command += ["-k", "bytewise" if bytewise else "not bytewise"]
        command += [f"tests/conformance/{module}.py" for module in modules]
        with (folder / "output").open("w+") as output:
            found = Run()
            try:
                subprocess.run(
                    command,
                    cwd=folder,
                    env=os.environ | {"PYTHONPATH": str(folder)},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=_RUN_LIMIT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                found.out_of_time = True
            output.seek(0)
            found.output = output.read()
    for module, test, result in _RESULT.findall(found.output):
        case = f"{module}::{_CUT.sub(_without_cut, test)}"
        (found.passed if result == "PASSED" else found.failed).add(case)
    return found


def _without_cut(found: re.Match[str]) -> str:
    return "]" if found[0].startswith("-") else ""


def _copy_project(folder: Path) -> None:
    for name in ("weldr", "tests"):
        shutil.copytree(_ROOT / name, folder / name)
    shutil.copy(_ROOT / "pyproject.toml", folder)
    for name in ("http", "backends"):
        path = folder / "tests" / "support" / f"{name}.py"
        text, count = re.subn(r"^LIMIT_S = .*$", f"LIMIT_S = {_LIMIT_S}", path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{path} has no LIMIT_S"
        path.write_text(text)
