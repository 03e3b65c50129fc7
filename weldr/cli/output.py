"""How the commands show what they found: for people on a terminal, for pipes, as JSON or YAML for programs."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from weldr.control.admin.items import written
from weldr.etcd.commit import Committed
from weldr.model.collections import COLLECTIONS, path_of
from weldr.model.documents import shown
from weldr.model.edits import Edit, Held, action
from weldr.model.keys import KeyName

FORMATS = ("table", "json", "yaml")
Command = TypeVar("Command", bound=Callable[..., Any])


def output_option(command: Command) -> Command:
    """Adds `--output`; the command gets `output`."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="table for people; json or yaml for programs.",
    )(command)


def show(document: Any, output: str) -> None:
    """A document, as JSON or YAML."""
    click.echo(as_json(document) if output == "json" else as_yaml(document).rstrip("\n"))


def show_next(document: Any, output: str) -> None:
    """One of many documents: a line of JSON, or a document of a YAML stream."""
    if output == "json":
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        click.echo(f"---\n{as_yaml(document)}", nl=False)


def as_json(document: Any) -> str:
    """Indented JSON."""
    return json.dumps(document, ensure_ascii=False, indent=2)


def as_yaml(document: Any) -> str:
    """YAML as people write it."""
    import yaml

    text: str = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=120)
    # A scalar alone gets an end of document, which nobody writes.
    return text.removesuffix("...\n")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows: a table on a terminal, lines with tabs elsewhere, so that `cut` and `awk` can take them."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(plain(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console().print(table)


def plain(text: str) -> str:
    """Text of somebody else on one line, that cannot drive a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def compact(document: Any) -> str:
    """A value on one line."""
    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)


def _difference(name: KeyName, before: bytes | None, after: bytes | None) -> list[str]:
    """What becomes of a key, as lines of a unified difference; what is secret is not in it."""
    old, new = ([] if raw is None else as_yaml(_displayed(name, raw)).splitlines() for raw in (before, after))
    old_label = "/dev/null" if before is None else path_of(name)
    new_label = "/dev/null" if after is None else path_of(name)
    lines = list(difflib.unified_diff(old, new, old_label, new_label, lineterm="", n=2))
    if not lines:
        return [f"    {path_of(name)}: changed in what is not shown"]
    return lines


def _displayed(name: KeyName, raw: bytes) -> Any:
    return shown(COLLECTIONS[name.kind.value], raw)


def tell(committed: Committed, output: str) -> None:
    """What became of each key."""
    if output != "table":
        show(msgspec.to_builtins(written(committed)), output)
        return
    words = {"create": "created", "update": "changed", "delete": "removed", "keep": "as it was"}
    for outcome in committed.outcomes:
        revision = f" at revision {committed.revision}" if outcome.action != "keep" else ""
        click.echo(f"{path_of(outcome.name)}: {words[outcome.action]}{revision}")


def edits_as_documents(held: dict[KeyName, Held], edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """What edits would change, for programs; what is secret is not in it."""
    found = []
    for edit in edits:
        before = held.get(edit.name)
        sides = (before.value if before else None, edit.value)
        old, new = (None if raw is None else _displayed(edit.name, raw) for raw in sides)
        found.append(
            {
                "key": path_of(edit.name),
                "action": action(before, edit.value).value,
                "before": old,
                "after": new,
            }
        )
    return found


def show_edits(held: dict[KeyName, Held], edits: Sequence[Edit]) -> None:
    """What edits would change, in colours on a terminal."""
    for edit in edits:
        before = held.get(edit.name)
        show_difference(edit.name, before.value if before else None, edit.value)
    created = sum(edit.name not in held for edit in edits)
    removed = sum(edit.value is None for edit in edits)
    click.echo(f"{created} to create, {len(edits) - created - removed} to change, {removed} to remove")


def show_difference(name: KeyName, before: bytes | None, after: bytes | None) -> None:
    """What becomes of a key, in colours on a terminal."""
    for line in _difference(name, before, after):
        click.echo(click.style(plain(line), fg=_colour(line)))


def _colour(line: str) -> str | None:
    if line.startswith("@@"):
        return "cyan"
    return {"+": "green", "-": "red"}.get(line[:1])
