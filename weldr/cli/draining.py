"""`weldr drain|undrain`: the operator's word on a backend or an instance, which no registration undoes."""

from __future__ import annotations

import click

from weldr.cli.arguments import complete_drainable, key_of
from weldr.cli.connect import Where, finish, store_options
from weldr.cli.help import examples
from weldr.cli.output import output_option, tell
from weldr.cli.waiting import (
    LateReason,
    not_applied,
    not_back,
    not_idle,
    not_out,
    say,
    wait_for_instances,
    wait_options,
)
from weldr.model.collections import COLLECTIONS, path_of
from weldr.model.documents import document_of, patched
from weldr.model.edits import Edit
from weldr.model.keys import KeyName, KeySpace, Kind

_OVERRIDE_OF = {Kind.BACKEND: Kind.OVERRIDE, Kind.INSTANCE: Kind.INSTANCE_OVERRIDE}


def _target(text: str, keys: KeySpace) -> KeyName:
    """A backend, whose collection may be left out, or an instance."""
    full = text.startswith((keys.prefix, f"{Kind.BACKEND}/", f"{Kind.INSTANCE}/"))
    name = key_of(text if full else f"{Kind.BACKEND}/{text}", keys)
    if name.kind not in _OVERRIDE_OF:
        raise click.UsageError(
            f"{text!r} is neither backend nor instance: expected SERVICE/ID or instances/NAME"
        )
    return name


def _called(name: KeyName) -> str:
    return f"{'backend' if name.kind is Kind.BACKEND else 'instance'} {'/'.join(name.names)}"


@click.command(
    epilog=examples(
        "weldr drain shop/b1 --wait && reboot-it",
        "weldr drain instances/proxy-2 --wait --timeout 120",
        "weldr undrain shop/b1",
    )
)
@click.argument("what", metavar="SERVICE/ID|instances/NAME", shell_complete=complete_drainable)
@output_option
@wait_options
@store_options
def drain(where: Where, what: str, output: str, wait: bool, timeout_s: float) -> None:
    """Send no new requests to a backend; or take an instance of weldr out of service.

    A backend: those in flight finish. With --wait, until none is in flight from any instance.

    An instance: it is not ready (/readyz), so that what is in front of it sends no more, gives its virtual IPs
    to whoever else stands, and serves whatever still comes. With --wait, until it has no virtual IP and no
    request.
    """
    finish(_drain(where, _target(what, where.keys), output, wait, timeout_s))


async def _drain(where: Where, target: KeyName, output: str, wait: bool, timeout_s: float) -> None:
    name = KeyName(_OVERRIDE_OF[target.kind], target.names)
    async with where.store() as store:
        state = await store.read()
        if target not in state.pairs:
            raise click.ClickException(f"there is no {_called(target)}")
        held = state.pairs.get(name)
        value = patched(COLLECTIONS[name.kind.value], held.value if held else b"{}", {"drain": True})
        committed = await store.commit([Edit(name, value, held.mod_revision if held else 0)])
        tell(committed, output)
        if wait:
            revision = committed.outcomes[0].new_revision
            late, only = not_idle(revision, "/".join(target.names)), None
            if target.kind is Kind.INSTANCE:
                late, only = not_out(revision), target.names[0]
            await wait_for_instances(where, store, late, timeout_s, only=only)
            done = (
                "no instance has a request in flight to it"
                if only is None
                else "it has no virtual IP and no request"
            )
            say(done, output)


@click.command(epilog=examples("weldr undrain shop/b1", "weldr undrain instances/proxy-2 --wait"))
@click.argument("what", metavar="SERVICE/ID|instances/NAME", shell_complete=complete_drainable)
@output_option
@wait_options
@store_options
def undrain(where: Where, what: str, output: str, wait: bool, timeout_s: float) -> None:
    """Take `drain` back. Whether a backend gets requests is its own word again; an instance is in service."""
    finish(_undrain(where, _target(what, where.keys), output, wait, timeout_s))


async def _undrain(where: Where, target: KeyName, output: str, wait: bool, timeout_s: float) -> None:
    name = KeyName(_OVERRIDE_OF[target.kind], target.names)
    async with where.store() as store:
        held = (await store.read()).pairs.get(name)
        if held is None:
            raise click.ClickException(f"nobody has drained {_called(target)}")
        value: bytes | None = patched(COLLECTIONS[name.kind.value], held.value, {"drain": None})
        left = document_of(value or b"")
        if not isinstance(left, dict) or not left.keys() - {"until"}:
            value = None
        committed = await store.commit([Edit(name, value, held.mod_revision)])
        tell(committed, output)
        if wait:
            late: LateReason = not_applied(committed.revision)
            only = target.names[0] if target.kind is Kind.INSTANCE else None
            await wait_for_instances(
                where, store, late if only is None else not_back(late), timeout_s, only=only
            )
            say(f"{path_of(target)} is in service again", output)
