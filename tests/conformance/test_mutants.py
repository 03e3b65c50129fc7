"""The table of mutants fits the source, and one of them is caught. `scripts/mutants` plays all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import weldr
from tests.conformance.mutants.bench import Bench
from tests.conformance.mutants.mutant import Edit, Mutant, StaleMutantError, read_mutants

PACKAGE = Path(weldr.__file__).parent
MUTANTS = read_mutants()


def test_what_each_mutant_replaces_is_in_the_source_once_and_python_without_it(tmp_path: Path) -> None:
    for number, mutant in enumerate(MUTANTS):
        copy = tmp_path / str(number) / "proxy"
        copy.mkdir(parents=True)
        shutil.copy(PACKAGE / "proxy" / mutant.file, copy)
        mutant.apply(copy.parent)
        compile((copy / mutant.file).read_text(), f"{mutant.place} {mutant.rule}", "exec")


def test_a_mutant_that_fits_no_more_is_told(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE / "proxy", tmp_path / "proxy")
    mutant = Mutant("a rule", "table:1", "fields.py", ("test_responses",), [Edit(["not there"], [""])])
    with pytest.raises(StaleMutantError, match=r"table:1: 'a rule' replaces what is 0 times in fields\.py"):
        mutant.apply(tmp_path)


def test_a_mutant_is_caught_by_the_cases_of_its_rule() -> None:
    [mutant] = [each for each in MUTANTS if each.rule == "TRACE is refused"]
    with Bench() as bench:
        found = bench.run(mutant, ("test_refused_requests",), bytewise=False, first_only=True)
    assert found.passed
    assert len(found.failed) == 1
    assert "TRACE" in found.failed.pop()
