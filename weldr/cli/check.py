"""`weldr check`: everything that is wrong with keys, in etcd or in files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from weldr.cli.connect import Where, finish, store_options
from weldr.cli.files import FileError, read_files
from weldr.cli.help import examples
from weldr.cli.output import output_option, show, show_next, show_table
from weldr.cli.repeating import show_again, watch_option
from weldr.cli.store import State
from weldr.control.certificates import validate
from weldr.model.collections import COLLECTIONS, path_of
from weldr.model.conflicts import Conflicts
from weldr.model.decode import Fault
from weldr.model.keys import KeyLayoutError, KeyName, KeySpace, Kind
from weldr.model.route_claims import RouteClaims, Written
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, Route


class Finding(msgspec.Struct, frozen=True):
    """Something about a key: an `error` is not in force, a `warning` is but may not be meant."""

    level: str
    key: str
    place: str
    reason: str


@click.command(
    epilog=examples("weldr check", "weldr check -f conf.d/ && weldr apply -f conf.d/", "weldr check --watch")
)
@click.option(
    "--file",
    "-f",
    "paths",
    multiple=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
    help="Check these files, and not what is in etcd. Can be given several times.",
)
@output_option
@watch_option
@store_options
def check(where: Where, paths: tuple[Path, ...], output: str, watch: bool) -> None:
    """Check every key under the prefix, or files before they are applied; exit with 1 if any is wrong."""
    if watch:
        if paths:
            raise click.UsageError("only what is in etcd can be watched: take --file or --watch")
        finish(_watch(where, output))
    elif paths:
        try:
            wanted, _ = read_files(list(paths), where.keys)
        except FileError as error:
            raise click.ClickException(str(error)) from None
        findings = list(judged(wanted))
        _tell(findings, len(wanted), output)
        sys.exit(_status(findings))
    else:
        state = finish(_read(where))
        findings = _findings(state, where.keys)
        _tell(findings, _count(state), output)
        sys.exit(_status(findings))


async def _watch(where: Where, output: str) -> None:
    async with where.store() as store:
        await show_again(
            store, lambda state: _tell(_findings(state, where.keys), _count(state), output, show_next)
        )


def _findings(state: State, keys: KeySpace) -> list[Finding]:
    values = {name: pair.value for name, pair in state.pairs.items()}
    revisions = {name: pair.mod_revision for name, pair in state.pairs.items()}
    return [*_strangers(state, keys), *judged(values, revisions), *_lonely(values)]


def _count(state: State) -> int:
    return len(state.pairs) + len(state.strangers)


def _status(findings: Sequence[Finding]) -> int:
    return 1 if any(found.level == "error" for found in findings) else 0


def _tell(
    findings: Sequence[Finding], count: int, output: str, show_one: Callable[[object, str], None] = show
) -> None:
    if output != "table":
        show_one(msgspec.to_builtins(findings), output)
        return
    show_table(("LEVEL", "KEY", "PLACE", "REASON"), [msgspec.structs.astuple(found) for found in findings])
    errors = sum(found.level == "error" for found in findings)
    click.echo(f"{count} keys: {errors} errors, {len(findings) - errors} warnings", err=True)


async def _read(where: Where) -> State:
    async with where.store() as store:
        return await store.read()


def _strangers(state: State, keys: KeySpace) -> Iterator[Finding]:
    for pair in state.strangers:
        try:
            keys.parse(pair.key)
        except KeyLayoutError as error:
            yield Finding("error", pair.key.decode("utf-8", "backslashreplace"), "key", error.reason)


def judged(values: Mapping[KeyName, bytes], revisions: Mapping[KeyName, int] = {}) -> Iterator[Finding]:
    """What is wrong, key by key, and then what does not fit together. Without revisions, as if all were
    written at one instant.
    """
    understood = {}
    for name, raw in values.items():
        collection = COLLECTIONS[name.kind.value]
        # A value from which the API took its secret cannot be judged.
        if not collection.writable or (collection.secrets and b'"key"' not in raw):
            continue
        found = validate(name.kind, raw)
        if isinstance(found, Fault):
            yield Finding("error", path_of(name), found.place, found.reason)
        else:
            understood[name] = found
    claims = RouteClaims()
    claims.settle(
        {
            name.names[0]: Written(revisions.get(name, 0), value)
            for name, value in understood.items()
            if isinstance(value, Route)
        }
    )
    for route, conflict in sorted(claims.refused.items()):
        yield Finding("error", f"{Kind.ROUTE}/{route}", conflict.place, conflict.reason)
    routes = {
        name.names[0]: value
        for name, value in understood.items()
        if isinstance(value, Route) and name.names[0] not in claims.refused
    }
    services = {
        name.names[0]: ServiceTraffic(backends={name.names[1]: value})
        for name, value in understood.items()
        if isinstance(value, Backend)
    }
    conflicts = Conflicts().changed(Traffic(), Traffic(services, routes), routes, ())
    for route, conflict in sorted(conflicts.by_route.items()):
        yield Finding("warning", f"{Kind.ROUTE}/{route}", conflict.place, conflict.reason)


def _lonely(values: Mapping[KeyName, bytes]) -> Iterator[Finding]:
    """Words on what is not there. In files that may well be elsewhere."""
    of = {Kind.OVERRIDE: Kind.BACKEND, Kind.INSTANCE_OVERRIDE: Kind.INSTANCE}
    for name in values:
        if name.kind in of and KeyName(of[name.kind], name.names) not in values:
            what = "backend" if name.kind is Kind.OVERRIDE else "instance"
            yield Finding("warning", path_of(name), "key", f"there is no such {what}: it applies to none")
