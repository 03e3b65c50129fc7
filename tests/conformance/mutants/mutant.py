"""A deliberately wrong variant of weldr: one rule switched off by a change of its source.

The tables are the files `*.mutants` beside this one. An entry there is

    # the rule, which holds no more
    @ file.py modules
    - lines of that file in weldr/proxy
    + what stands in their place

where `modules` are those of the conformance tests that have cases of the rule (`test_` left out), and what is
replaced occurs in the file exactly once, within a line or over several. One rule may take several changes,
and what two rules prevent takes a change of each.
Lines that begin with `=` are headings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TABLES = Path(__file__).parent


class StaleMutantError(Exception):
    """What a mutant replaces is not in the source exactly once: the source has moved on, the table has not."""


@dataclass
class Edit:
    """Lines, and the lines in their place."""

    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass
class Mutant:
    """See the module."""

    rule: str
    """Unique."""
    place: str
    """The entry's, for whoever has to mend it."""
    file: str = ""
    modules: tuple[str, ...] = ()
    edits: list[Edit] = field(default_factory=list)

    def apply(self, package: Path) -> None:
        """Change the copy of weldr whose folder `package` is.

        Raises `StaleMutantError`.
        """
        path = package / "proxy" / self.file
        text = path.read_text()
        for edit in self.edits:
            old, new = "\n".join(edit.old), "\n".join(edit.new)
            if (count := text.count(old)) != 1:
                raise StaleMutantError(
                    f"{self.place}: {self.rule!r} replaces what is {count} times in {self.file}:\n{old}"
                )
            text = text.replace(old, new)
        path.write_text(text)


def read_mutants() -> list[Mutant]:
    """All of them.

    Raises `ValueError` if a table is malformed.
    """
    found = [mutant for table in sorted(TABLES.glob("*.mutants")) for mutant in _read_table(table)]
    rules = [mutant.rule for mutant in found]
    for mutant in found:
        if not mutant.modules or not mutant.edits:
            raise ValueError(f"{mutant.place}: {mutant.rule!r} has no file, no modules or no change")
        if rules.count(mutant.rule) > 1:
            raise ValueError(f"{mutant.place}: the rule {mutant.rule!r} is there twice")
    return found


def _read_table(table: Path) -> Iterator[Mutant]:
    mutant = Mutant("", table.name)
    for number, line in enumerate(table.read_text().splitlines(), 1):
        mark, rest = line[:1], line[2:]
        if mark == "#":
            if mutant.rule:
                yield mutant
            mutant = Mutant(rest, f"{table.name}:{number}")
        elif mark == "@":
            mutant.file, *modules = rest.split()
            mutant.modules = tuple(f"test_{module}" for module in modules)
        elif mark == "-":
            if not mutant.edits or mutant.edits[-1].new:
                mutant.edits.append(Edit())
            mutant.edits[-1].old.append(rest)
        elif mark == "+":
            mutant.edits[-1].new.append(rest)
        elif mark not in ("", "="):
            raise ValueError(f"{table.name}:{number}: {line!r} begins with no mark")
    yield mutant
