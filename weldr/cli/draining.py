"""`weldr drain|undrain`: the operator's word on a backend, which no registration undoes."""

from __future__ import annotations

import click

from weldr.cli.connect import Where, finish, store_options
from weldr.cli.keys import key_of, tell
from weldr.cli.waiting import not_idle, wait_for_instances, wait_options
from weldr.model.collections import COLLECTIONS
from weldr.model.documents import document_of, patched
from weldr.model.edits import Edit
from weldr.model.keys import KeyName, KeySpace, Kind


def _backend(text: str, keys: KeySpace) -> KeyName:
    name = key_of(text if text.startswith(("backends/", keys.prefix)) else f"backends/{text}", keys)
    if name.kind is not Kind.BACKEND:
        raise click.UsageError(f"{text!r} is no backend: expected SERVICE/ID")
    return name


@click.command()
@click.argument("backend", metavar="SERVICE/ID")
@wait_options
@store_options
def drain(where: Where, backend: str, wait: bool, timeout_s: float) -> None:
    """Send no new requests to a backend; those in flight finish. With --wait, until none is left anywhere."""
    finish(_drain(where, _backend(backend, where.keys), wait, timeout_s))


async def _drain(where: Where, backend: KeyName, wait: bool, timeout_s: float) -> None:
    name = KeyName(Kind.OVERRIDE, backend.names)
    async with where.store() as store:
        state = await store.read()
        if backend not in state.pairs:
            raise click.ClickException(f"there is no backend {'/'.join(backend.names)}")
        held = state.pairs.get(name)
        value = patched(COLLECTIONS[name.kind.value], held.value if held else b"{}", {"drain": True})
        committed = await store.commit([Edit(name, value, held.mod_revision if held else 0)])
        tell(committed)
        if wait:
            revision = max(committed.outcomes[0].new_revision, 1)
            await wait_for_instances(store, not_idle(revision, "/".join(backend.names)), timeout_s)
            click.echo("no instance has a request in flight to it")


@click.command()
@click.argument("backend", metavar="SERVICE/ID")
@store_options
def undrain(where: Where, backend: str) -> None:
    """Take `drain` back. Whether the backend gets requests is its own word again."""
    finish(_undrain(where, _backend(backend, where.keys)))


async def _undrain(where: Where, backend: KeyName) -> None:
    name = KeyName(Kind.OVERRIDE, backend.names)
    async with where.store() as store:
        held = (await store.read()).pairs.get(name)
        if held is None:
            raise click.ClickException(f"nobody has drained {'/'.join(backend.names)}")
        value: bytes | None = patched(COLLECTIONS[name.kind.value], held.value, {"drain": None})
        left = document_of(value or b"")
        if not isinstance(left, dict) or not left.keys() - {"until"}:
            value = None
        tell(await store.commit([Edit(name, value, held.mod_revision)]))
