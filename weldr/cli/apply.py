"""`weldr apply|export`: all keys as files say, and files from all keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from weldr.cli.connect import Where, finish, store_options
from weldr.cli.files import FileError, nested, read_files
from weldr.cli.help import examples
from weldr.cli.output import edits_as_documents, output_option, show, show_edits
from weldr.cli.store import State, Store
from weldr.cli.waiting import not_applied, say, wait_for_instances, wait_options
from weldr.model.collections import COLLECTIONS
from weldr.model.documents import document_of
from weldr.model.edits import Action, Edit, TooLargeError, difference, stages
from weldr.model.keys import KeyName, Kind


@click.command(
    epilog=examples(
        "weldr apply -f shop.yaml",
        "weldr apply -f conf.d/ --prune --wait",
        "weldr apply -f conf.d/ --check -o json",
    )
)
@click.option(
    "--file",
    "-f",
    "paths",
    required=True,
    multiple=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="YAML or JSON, or a directory of such files. Can be given several times.",
)
@click.option(
    "--prune",
    is_flag=True,
    help="Remove what the files lack, in collections of which they have anything, or {}; not registrations.",
)
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if anything differs.")
@output_option
@wait_options
@store_options
def apply(
    where: Where,
    paths: tuple[Path, ...],
    prune: bool,
    check: bool,
    output: str,
    wait: bool,
    timeout_s: float,
) -> None:
    """Make the keys what FILES say, at one instant. The difference is shown first.

    A change too large for one transaction of etcd is staged so that no request sees half of it, or refused.
    """
    try:
        wanted, named = read_files(list(paths), where.keys)
    except FileError as error:
        raise click.ClickException(str(error)) from None
    kinds = [collection.kind for collection in named] if prune else []
    finish(_apply(where, wanted, kinds, output, check, wait, timeout_s))


@dataclass(slots=True)
class Change:
    """A change of many keys, as it is shown: as a difference before, or as one document after."""

    state: State
    edits: Sequence[Edit]
    output: str
    revisions: list[int] = field(default_factory=list)
    """Of its stages, when they are written."""

    def show(self) -> None:
        """What it would do, for people."""
        if self.output == "table":
            show_edits(self.state.held, self.edits)

    def written(self, step: Sequence[Edit], revision: int, of: int) -> None:
        """A stage was written."""
        self.revisions.append(revision)
        stage = f", stage {len(self.revisions)} of {of}" if of > 1 else ""
        if self.output == "table":
            click.echo(
                f"{len(step)} {'key' if len(step) == 1 else 'keys'} written at revision {revision}{stage}"
            )

    def show_result(self) -> None:
        """What it did, for programs."""
        if self.output != "table":
            changes = edits_as_documents(self.state.held, self.edits)
            show({"revisions": self.revisions, "changes": changes}, self.output)


async def _apply(
    where: Where,
    wanted: dict[KeyName, bytes],
    prune: list[Kind],
    output: str,
    check: bool,
    wait: bool,
    timeout_s: float,
) -> None:
    async with where.store() as store:
        state = await store.read()
        change = Change(state, await _really_different(store, difference(state.held, wanted, prune)), output)
        change.show()
        if check:
            change.show_result()
            sys.exit(1 if change.edits else 0)
        revision = await write(store, change)
        change.show_result()
        if wait:
            await wait_for_instances(where, store, not_applied(revision or _last_change(state)), timeout_s)
            say("every instance serves it", output)


async def _really_different(store: Store, edits: list[Edit]) -> list[Edit]:
    """Where secrets are hidden from us, only the other side can tell whether a value differs."""
    hidden = [edit for edit in edits if store.hides_secrets and COLLECTIONS[edit.name.kind.value].secrets]
    same: set[KeyName] = set()
    for edit in hidden:
        tried = await store.commit([edit], dry_run=True)
        same |= {outcome.name for outcome in tried.outcomes if outcome.action is Action.KEEP}
    return [edit for edit in edits if edit.name not in same]


def _last_change(state: State) -> int:
    """The last revision in which a key of the configuration changed, as far as the keys tell."""
    writable = [pair for name, pair in state.pairs.items() if COLLECTIONS[name.kind.value].writable]
    return max((pair.mod_revision for pair in writable), default=0)


async def write(store: Store, change: Change) -> int:
    """Write a change in as many transactions as it takes; the last revision, 0 if there was nothing to write.

    Raises `click.ClickException` if there is no order in which no request sees half of it.
    """
    try:
        steps = stages(change.state.held, change.edits, store.keys)
    except TooLargeError as error:
        raise click.ClickException(f"{error}: nothing was written") from None
    revision = 0
    for step in steps:
        committed = await store.commit(step)
        revision = committed.revision
        change.written(step, revision, len(steps))
    return revision


@click.command(epilog=examples("weldr export > all.yaml", "weldr export -o json"))
@click.option(
    "--output",
    "-o",
    type=click.Choice(("yaml", "json")),
    default="yaml",
    show_default=True,
    help="How to write it; weldr apply reads both.",
)
@click.option("--secrets", is_flag=True, help="With certificates and their private keys.")
@store_options
def export(where: Where, output: str, secrets: bool) -> None:
    """Write all keys as a file for `weldr apply`.

    Without what lives under a lease, which is no configuration, and without certificates.
    """
    finish(_export(where, output, secrets))


async def _export(where: Where, output: str, secrets: bool) -> None:
    async with where.store() as store:
        if secrets and store.hides_secrets:
            raise click.UsageError("the API tells no secrets: give --etcd in place of --admin")
        state = await store.read()
    left_out = 0
    values = {}
    for name, pair in state.pairs.items():
        collection = COLLECTIONS[name.kind.value]
        if not collection.writable or pair.lease:
            continue
        if collection.secrets and not secrets:
            left_out += 1
            continue
        values[name] = document_of(pair.value)
    show(nested(values), output)
    if left_out:
        click.echo(f"{left_out} keys with secrets were left out: --secrets writes them", err=True)
