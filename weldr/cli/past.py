"""`weldr history|rollback`: what etcd remembers until it compacts."""

from __future__ import annotations

from collections.abc import Iterator

import click

from weldr.cli.apply import write
from weldr.cli.connect import Where, finish, store_options
from weldr.cli.etcd_store import told_failures
from weldr.cli.keys import key_of
from weldr.cli.output import show_difference, show_edits
from weldr.cli.store import State
from weldr.cli.waiting import not_applied, wait_for_instances, wait_options
from weldr.etcd.history import History, history
from weldr.model.collections import COLLECTIONS
from weldr.model.edits import Edit, difference
from weldr.model.events import KeyValue
from weldr.model.keys import KeyLayoutError, KeyName, KeySpace


@click.command(name="history")
@click.argument("path", metavar="[KEY]", required=False)
@click.option("--limit", "-n", type=click.IntRange(1), default=50, show_default=True, help="The last so many.")
@store_options
def show_history(where: Where, path: str | None, limit: int) -> None:
    """Show the changes of configuration, or of KEY, as differences; the last one last.

    etcd has them until it compacts. Registrations under a lease are not configuration.
    """
    name = key_of(path, where.keys) if path else None
    past = finish(_history(where))
    steps = list(_steps(past, where.keys, name))
    if len(steps) > limit:
        click.echo(f"{len(steps) - limit} earlier changes are not shown", err=True)
    for revision, changes in steps[-limit:]:
        click.echo(click.style(f"revision {revision}", bold=True))
        for changed, before, after in changes:
            show_difference(changed, before, after)
    if past.first_revision:
        click.echo(f"etcd has compacted what was before revision {past.first_revision}", err=True)


async def _history(where: Where) -> History:
    async with where.etcd_store("history") as store:
        with told_failures():
            return await history(store.client, store.keys.prefix_bytes)


_Change = tuple[KeyName, bytes | None, bytes | None]


def _steps(past: History, keys: KeySpace, only: KeyName | None) -> Iterator[tuple[int, list[_Change]]]:
    """The revisions that changed configuration, with what they changed."""
    held = dict(past.held)
    for revision in past.revisions:
        changes = []
        for event in revision.events:
            pair = event.key_value
            before = held.pop(pair.key, None)
            after = None if event.deleted else pair
            if after is not None:
                held[pair.key] = after
            name = _configured(keys, before, after)
            if name is not None and only in (None, name):
                sides = [None if side is None else side.value for side in (before, after)]
                changes.append((name, sides[0], sides[1]))
        if changes:
            yield revision.revision, changes


def _configured(keys: KeySpace, before: KeyValue | None, after: KeyValue | None) -> KeyName | None:
    """The key, if it is one that people write."""
    pair = after or before
    if pair is None or all(side is None or side.lease for side in (before, after)):
        return None
    try:
        name = keys.parse(pair.key)
    except KeyLayoutError:
        return None
    return name if COLLECTIONS[name.kind.value].writable else None


@click.command()
@click.argument("revision", type=click.IntRange(1))
@click.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@wait_options
@store_options
def rollback(where: Where, revision: int, dry_run: bool, wait: bool, timeout_s: float) -> None:
    """Make the configuration what it was at REVISION, at one instant. The difference is shown first.

    What is registered under a lease, now or then, stays as it is.
    """
    finish(_rollback(where, revision, dry_run, wait, timeout_s))


async def _rollback(where: Where, revision: int, dry_run: bool, wait: bool, timeout_s: float) -> None:
    async with where.store() as store:
        state, past = await store.read(), await store.read(revision)
        edits = _back(state, past, hides_secrets=store.hides_secrets)
        show_edits(state.held, edits)
        if dry_run or not edits:
            return
        written = await write(store, state, edits)
        if wait:
            await wait_for_instances(store, not_applied(written), timeout_s)
            click.echo("every instance serves it")


def _back(state: State, past: State, *, hides_secrets: bool) -> list[Edit]:
    """What turns today's configuration into the past one."""
    kinds = [
        collection.kind
        for collection in COLLECTIONS.values()
        # What cannot be read cannot be written back.
        if collection.writable and not (hides_secrets and collection.secrets)
    ]
    registered = {name for read in (state, past) for name, pair in read.pairs.items() if pair.lease}
    wanted = {
        name: pair.value for name, pair in past.pairs.items() if name.kind in kinds and name not in registered
    }
    edits = difference(state.held, wanted, kinds)
    return [edit for edit in edits if edit.name not in registered]
