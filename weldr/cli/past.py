"""`weldr history|rollback`: what etcd remembers until it compacts."""

from __future__ import annotations

import click
import msgspec

from weldr.cli.apply import Change, write
from weldr.cli.arguments import REVISION, complete_writable, key_of
from weldr.cli.connect import Where, finish, store_options
from weldr.cli.help import examples
from weldr.cli.output import output_option, show, show_difference
from weldr.cli.store import State
from weldr.cli.waiting import not_applied, say, wait_for_instances, wait_options
from weldr.control.admin.history_endpoint import history_of
from weldr.model.collections import COLLECTIONS
from weldr.model.edits import Edit, difference
from weldr.model.keys import KeyName
from weldr.model.past import Past

_MOST_STEPS = 100_000


@click.command(
    name="history",
    epilog=examples("weldr history", "weldr history routes/cart -n 5", "weldr history -o json"),
)
@click.argument("path", metavar="[KEY]", required=False, shell_complete=complete_writable)
@output_option
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(1, _MOST_STEPS),
    default=50,
    show_default=True,
    help="The last so many.",
)
@store_options
def show_history(where: Where, path: str | None, output: str, limit: int) -> None:
    """Show the changes of configuration, or of KEY, as differences; the last one last.

    etcd has them until it compacts. Registrations under a lease are not configuration.
    """
    name = key_of(path, where.keys) if path else None
    past = finish(_read(where, limit, name))
    if output != "table":
        show(msgspec.to_builtins(history_of(past)), output)
        return
    if past.omitted:
        click.echo(f"{past.omitted} earlier changes are not shown", err=True)
    for step in past.steps:
        click.echo(click.style(f"revision {step.revision}", bold=True))
        for change in step.changes:
            show_difference(change.name, change.before, change.after)
    if past.first_revision:
        click.echo(f"etcd has compacted what was before revision {past.first_revision}", err=True)


async def _read(where: Where, limit: int, name: KeyName | None) -> Past:
    async with where.store() as store:
        return await store.past(limit, name)


@click.command(epilog=examples("weldr history", "weldr rollback 1234 --dry-run", "weldr rollback 1234 --wait"))
@click.argument("revision", type=REVISION)
@output_option
@click.option("--dry-run", is_flag=True, help="Show the difference, and change nothing.")
@wait_options
@store_options
def rollback(where: Where, revision: int, output: str, dry_run: bool, wait: bool, timeout_s: float) -> None:
    """Make the configuration what it was at REVISION, at one instant. The difference is shown first.

    What is registered under a lease, now or then, stays as it is.
    """
    finish(_rollback(where, revision, output, dry_run, wait, timeout_s))


async def _rollback(
    where: Where, revision: int, output: str, dry_run: bool, wait: bool, timeout_s: float
) -> None:
    async with where.store() as store:
        state, past = await store.read(), await store.read(revision)
        hidden = [name for name in {*state.pairs, *past.pairs} if COLLECTIONS[name.kind.value].secrets]
        if store.hides_secrets and any(COLLECTIONS[name.kind.value].writable for name in hidden):
            click.echo("keys with secrets stay as they are: the API does not tell them", err=True)
        change = Change(state, _back(state, past, hides_secrets=store.hides_secrets), output)
        change.show()
        if not dry_run and change.edits:
            revision = await write(store, change)
            if wait:
                await wait_for_instances(where, store, not_applied(revision), timeout_s)
                say("every instance serves it", output)
        change.show_result()


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
