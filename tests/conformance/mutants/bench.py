"""Running the conformance tests against a mutant: in a copy of the project, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.mutants.mutant import Mutant
from tests.support import real_time

_ROOT = Path(__file__).parents[3]
_LIMIT_S = 4.0
"""What a test waits for at most, in place of its usual patience."""
_RUN_LIMIT_S = 300.0
BROAD = 40
"""A run ends at so many failed tests: nearly everything fails then, which shows nothing of any one case."""
_RESULT = re.compile(r"^tests/conformance/(\w+)\.py::(.+?) (PASSED|FAILED|ERROR)\b", re.MULTILINE)
_CUT = re.compile(r"[-\[](whole|bytewise)\]$")


@dataclass
class Run:
    """What came of it. A case is `module::test[id]`, whether it came whole or byte by byte."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    out_of_time: bool = False
    output: str = ""


class Bench:
    """A copy of the project, of which each mutant gets a copy: it keeps what Python has compiled."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="weldr-mutants-")
        self._sound = Path(self._folder.name)
        _copy_project(self._sound)

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def run_sound(self, modules: tuple[str, ...]) -> Run:
        """Run these modules against weldr as it is."""
        return _run(self._sound, modules, "not bytewise", first_only=False)

    def run(self, mutant: Mutant, modules: tuple[str, ...], *, bytewise: bool, first_only: bool) -> Run:
        """Run these modules against the mutant.

        Raises `StaleMutantError`.
        """
        with tempfile.TemporaryDirectory(prefix="weldr-mutant-") as name:
            folder = Path(name) / "project"
            shutil.copytree(self._sound, folder)
            mutant.apply(folder / "weldr")
            return _run(folder, modules, "bytewise" if bytewise else "not bytewise", first_only=first_only)


def _run(folder: Path, modules: tuple[str, ...], keyword: str, *, first_only: bool) -> Run:
    command = [sys.executable, "-m", "pytest", "-v", "--tb=no", "-p", "no:cacheprovider", "-k", keyword]
    command.append(f"--maxfail={1 if first_only else BROAD}")
    command += [f"tests/conformance/{module}.py" for module in modules]
    # A mutant's tests fail, and are not to be tried again for that.
    environment = os.environ | {"PYTHONPATH": str(folder), real_time.TRIES: "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = Run()
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(_RUN_LIMIT_S)
        except subprocess.TimeoutExpired:
            found.out_of_time = True
        finally:
            # With its workers: a mutant of one may run for ever, and nobody else would end it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        found.output = output.read()
    for module, test, result in _RESULT.findall(found.output):
        case = f"{module}::{_CUT.sub(_without_cut, test)}"
        (found.passed if result == "PASSED" else found.failed).add(case)
    return found


def _without_cut(found: re.Match[str]) -> str:
    return "]" if found[0].startswith("-") else ""


def _copy_project(folder: Path) -> None:
    needless = shutil.ignore_patterns("__pycache__", "unit", "integration", "fuzz", "soak", "hosts", "browser")
    for name in ("weldr", "tests"):
        shutil.copytree(_ROOT / name, folder / name, ignore=needless)
    shutil.copy(_ROOT / "pyproject.toml", folder)
    for name in ("http", "backends"):
        path = folder / "tests" / "support" / f"{name}.py"
        text, count = re.subn(r"^LIMIT_S = .*$", f"LIMIT_S = {_LIMIT_S}", path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{path} has no LIMIT_S"
        path.write_text(text)
