"""`weldr get|put|rm|edit`: single keys."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from weldr.cli.arguments import (
    REVISION,
    REVISION_OR_NONE,
    complete_any,
    complete_writable,
    key_of,
    writable,
)
from weldr.cli.connect import Where, finish, store_options
from weldr.cli.help import examples
from weldr.cli.output import as_json, compact, output_option, show, show_table, tell
from weldr.cli.repeating import show_again, watch_option
from weldr.cli.store import State, Store
from weldr.control.certificates import validate
from weldr.control.vip.standing import COLUMNS, standings_of
from weldr.etcd.commit import Committed
from weldr.model.collections import COLLECTIONS, Collection, PathError, parse_path_prefix, path_of
from weldr.model.decode import Fault
from weldr.model.documents import DocumentError, document_of, parse_json, raw_of, raw_of_body, shown
from weldr.model.edits import Edit
from weldr.model.events import KeyValue
from weldr.model.keys import KeyName, KeySpace, Kind

_MOST_INPUT_BYTES = 2 * 1024 * 1024


@click.command(
    epilog=examples(
        "weldr get",
        "weldr get backends/shop --watch",
        "weldr get routes/cart -o yaml",
        "weldr get routes/cart --revision 1234",
    )
)
@click.argument("what", required=False, shell_complete=complete_any)
@output_option
@click.option("--revision", type=REVISION, help="As it was at this revision.")
@watch_option
@store_options
def get(where: Where, what: str | None, output: str, revision: int | None, watch: bool) -> None:
    """Show keys.

    WHAT is a key (`routes/cart`), a collection (`routes`) or a part of one (`backends/shop`); all without it.
    """
    if watch and revision:
        raise click.UsageError("the past does not change: take --revision or --watch")
    finish(_get(where, what, output, revision or 0, watch))


async def _get(where: Where, what: str | None, output: str, revision: int, watch: bool) -> None:
    async with where.store() as store:
        if watch:
            await show_again(store, lambda state: _show(state, what, store, output))
        else:
            _show(await store.read(revision), what, store, output)


def _show(state: State, what: str | None, store: Store, output: str) -> None:
    found = _selected(state, what, store.keys)
    exact = bool(what) and len(found) == 1 and _is_key(what or "", store.keys)
    if found and all(name.kind is Kind.VIP for name, _ in found) and not (exact and output == "table"):
        _show_vips(found, state, store.keys, output, exact)
    elif exact and output == "table":
        document = shown(COLLECTIONS[found[0][0].kind.value], found[0][1].value)
        click.echo(document if isinstance(document, str) else as_json(document))
    elif exact:
        show(_item(*found[0]), output)
    elif output == "table":
        show_table(("KEY", "VALUE", "REVISION", "LEASE", ""), [_row(*item) for item in found])
    else:
        show([_item(*item) for item in found], output)


def _show_vips(
    found: list[tuple[KeyName, KeyValue]], state: State, keys: KeySpace, output: str, exact: bool
) -> None:
    """What people want to know of virtual IPs is how they stand, and not only what was asked for."""
    standings = {standing.name: standing for standing in standings_of(state.pairs.values(), keys)}
    if output == "table":
        rows = []
        for name, pair in found:
            standing = standings.get(name.names[0])
            row = standing.row() if standing else (name.names[0], *[""] * (len(COLUMNS) - 1))
            rows.append((*row, _fault(name, pair)))
        show_table((*COLUMNS, ""), rows)
        return
    items = []
    for name, pair in found:
        standing = standings.get(name.names[0])
        items.append(_item(name, pair) | ({"status": standing.document()} if standing else {}))
    show(items[0] if exact else items, output)


def _selected(state: State, what: str | None, keys: KeySpace) -> list[tuple[KeyName, KeyValue]]:
    pairs = sorted(state.pairs.items(), key=lambda item: (item[0].kind, item[0].names))
    if not what:
        return pairs
    try:
        collection, names = parse_path_prefix(what, keys)
    except PathError as error:
        raise click.UsageError(str(error)) from None
    found = [
        (name, pair)
        for name, pair in pairs
        if name.kind is collection.kind and name.names[: len(names)] == names
    ]
    if not found and (names or not collection.parts):
        raise click.ClickException(f"there is no {what}")
    return found


def _is_key(what: str, keys: KeySpace) -> bool:
    collection, names = parse_path_prefix(what, keys)
    return len(names) == len(collection.parts)


def _item(name: KeyName, pair: KeyValue) -> dict[str, Any]:
    item = {
        "key": path_of(name),
        "value": shown(COLLECTIONS[name.kind.value], pair.value),
        "create_revision": pair.create_revision,
        "mod_revision": pair.mod_revision,
    }
    if pair.lease:
        item["lease"] = f"{pair.lease:x}"
    return item


def _row(name: KeyName, pair: KeyValue) -> tuple[str, ...]:
    item = _item(name, pair)
    return (
        item["key"],
        compact(item["value"]),
        str(pair.mod_revision),
        item.get("lease", ""),
        _fault(name, pair),
    )


def _fault(name: KeyName, pair: KeyValue) -> str:
    collection = COLLECTIONS[name.kind.value]
    # Through the API a certificate comes without its key, which would be a fault.
    if not collection.writable or collection.secrets:
        return ""
    found = validate(name.kind, pair.value)
    return f"wrong at {found.place}: {found.reason}" if isinstance(found, Fault) else ""


@click.command(
    epilog=examples(
        "weldr put backends/shop/b1 10.0.0.5:8080",
        """weldr put routes/cart '{"host": "shop.example", "path": "/cart", "service": "cart"}'""",
        """weldr put services/cart '{"retries": {"attempts": 2}}' --if-revision 0""",
        "weldr put settings - < settings.json",
        "jq -n --rawfile cert chain.pem --rawfile key key.pem '{$cert, $key}' | weldr put certs/shop -",
    )
)
@click.argument("path", metavar="KEY", shell_complete=complete_writable)
@click.argument("value")
@output_option
@click.option(
    "--if-revision", type=REVISION_OR_NONE, help="Only if the key has this revision; 0: if it is new."
)
@store_options
def put(where: Where, path: str, value: str, output: str, if_revision: int | None) -> None:
    """Write VALUE to KEY, as in `weldr put backends/shop/b1 10.0.0.5:8080`. It is checked before it is written.

    With - for VALUE it is read from standard input.
    """
    name = writable(key_of(path, where.keys))
    body = (
        sys.stdin.buffer.read(_MOST_INPUT_BYTES) if value == "-" else value.encode("utf-8", "surrogateescape")
    )
    raw = checked(name, raw_of_body(body))
    tell(finish(_commit(where, [Edit(name, raw, if_revision)])), output)


@click.command(
    epilog=examples("weldr rm routes/cart", "weldr rm backends/cart/b1 backends/cart/b2 services/cart")
)
@click.argument("paths", metavar="KEY...", nargs=-1, required=True, shell_complete=complete_writable)
@output_option
@store_options
def rm(where: Where, paths: tuple[str, ...], output: str) -> None:
    """Remove KEYS, all at one instant."""
    names = list(dict.fromkeys(writable(key_of(path, where.keys)) for path in paths))
    finish(_remove(where, names, output))


async def _remove(where: Where, names: list[KeyName], output: str) -> None:
    async with where.store() as store:
        state = await store.read()
        missing = [path_of(name) for name in names if name not in state.pairs]
        if missing:
            raise click.ClickException(f"there is no {missing[0]}: nothing was removed")
        edits = [Edit(name, None, state.pairs[name].mod_revision) for name in names]
        tell(await store.commit(edits), output)


@click.command(epilog=examples("weldr edit routes/cart", "weldr edit settings --editor 'code --wait'"))
@click.argument("path", metavar="KEY", shell_complete=complete_writable)
@output_option
@click.option("--editor", envvar=["VISUAL", "EDITOR"], help="Program to edit with.")
@store_options
def edit(where: Where, path: str, output: str, editor: str | None) -> None:
    """Edit KEY in $EDITOR. What is saved is checked, and written if nobody has changed the key meanwhile.

    What is secret in it is not shown, and stays as it is unless another is written in its place.
    """
    finish(_edit(where, writable(key_of(path, where.keys)), output, editor))


async def _edit(where: Where, name: KeyName, output: str, editor: str | None) -> None:
    async with where.store() as store:
        if store.hides_secrets and COLLECTIONS[name.kind.value].secrets:
            raise click.UsageError(f"the API does not tell all of {name.kind}: give --etcd in place of --admin")
        pair = (await store.read()).pairs.get(name)
        collection = COLLECTIONS[name.kind.value]
        old = _editable(shown(collection, pair.value)) if pair else "{}\n"
        text = old
        while True:
            saved = await asyncio.to_thread(_in_editor, text, editor)
            if saved is None or saved == old:
                click.echo("nothing was changed")
                return
            try:
                raw = checked(name, _with_secrets(collection, pair, _saved(saved)))
                break
            except click.ClickException as error:
                if not sys.stdin.isatty():
                    raise
                click.confirm(f"{error.message}; edit again?", default=True, abort=True)
                text = saved
        tell(await store.commit([Edit(name, raw, pair.mod_revision if pair else 0)]), output)


def _in_editor(text: str, editor: str | None) -> str | None:
    try:
        return click.edit(text, editor=editor, extension=".json")
    except UnicodeDecodeError:
        raise click.ClickException("what was saved is not UTF-8: nothing was changed") from None
    except ValueError as error:
        raise click.ClickException(f"the editor's command cannot be understood: {error}") from None
    except OSError as error:
        raise click.ClickException(f"the file that was edited cannot be read: {error.strerror}") from None


def _editable(document: Any) -> str:
    return f"{document}\n" if isinstance(document, str) else f"{as_json(document)}\n"


def _saved(text: str) -> bytes:
    raw = raw_of_body(text.encode())
    try:
        # Compact, as it came: the indentation was for the editor.
        return raw_of(parse_json(raw)) if raw.startswith(b"{") else raw
    except DocumentError:
        return raw


def _with_secrets(collection: Collection, pair: KeyValue | None, raw: bytes) -> bytes:
    """What was saved, with the secret members that the editor did not show."""
    held, saved = document_of(pair.value) if pair else None, document_of(raw)
    if not isinstance(held, dict) or not isinstance(saved, dict):
        return raw
    hidden = {member: held[member] for member in collection.secrets if member in held and member not in saved}
    return raw_of({**saved, **hidden}) if hidden else raw


def checked(name: KeyName, raw: bytes) -> bytes:
    """The value, if the catalog will understand it.

    Raises `click.ClickException` with the place in the value.
    """
    found = validate(name.kind, raw)
    if isinstance(found, Fault):
        raise click.ClickException(
            f"the value of {path_of(name)} cannot be understood, at {found.place}: {found.reason}"
        )
    return raw


async def _commit(where: Where, edits: list[Edit]) -> Committed:
    async with where.store() as store:
        return await store.commit(edits)
