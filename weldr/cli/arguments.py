"""Keys as arguments: what they name, and how a shell completes them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import click

from weldr.cli.connect import where_of
from weldr.cli.store import State, StoreError
from weldr.model.collections import COLLECTIONS, parse_path, path_of
from weldr.model.keys import KeyName, KeySpace, Kind

_MOST_REVISION = 2**63 - 1
REVISION = click.IntRange(1, _MOST_REVISION)
REVISION_OR_NONE = click.IntRange(0, _MOST_REVISION)
"""0 stands for no key."""

_COMPLETION_LIMIT_S = 3.0
_MOST_COMPLETIONS = 500
# Shells put a completion on the command line as it is, and whoever may write keys chooses their names: so only
# what every shell reads as one word.
_PLAIN = re.compile(r"[\w@%+=:,./-]+")


def key_of(text: str, keys: KeySpace) -> KeyName:
    """The key that an argument names.

    Raises `click.UsageError`.
    """
    try:
        name = parse_path(text, keys)
        keys.key(name.kind, *name.names)
        return name
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def writable(name: KeyName) -> KeyName:
    """The key, if people may write it.

    Raises `click.UsageError`.
    """
    if not COLLECTIONS[name.kind.value].writable:
        raise click.UsageError(f"{name.kind} are written by weldr alone")
    return name


def complete_any(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Collections and keys."""
    return _chosen([*COLLECTIONS, *map(path_of, _state(context).pairs)], incomplete)


def complete_writable(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Keys that people may write."""
    names = (name for name in _state(context).pairs if COLLECTIONS[name.kind.value].writable)
    return _chosen(map(path_of, names), incomplete)


def complete_drainable(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Backends without their collection, and instances with it."""
    pairs = _state(context).pairs
    backends = ("/".join(name.names) for name in pairs if name.kind is Kind.BACKEND)
    instances = (path_of(name) for name in pairs if name.kind is Kind.INSTANCE)
    return _chosen([*backends, *instances], incomplete)


def _chosen(candidates: Iterable[str], incomplete: str) -> list[str]:
    found = {text for text in candidates if text.startswith(incomplete) and _PLAIN.fullmatch(text)}
    return sorted(found)[:_MOST_COMPLETIONS]


def _state(context: click.Context) -> State:
    """What is there now; nothing if that cannot be found out soon: nobody wants an error for pressing a key."""

    async def read() -> State:
        async with asyncio.timeout(_COMPLETION_LIMIT_S), where_of(context).store() as store:
            return await store.read()

    try:
        return asyncio.run(read())
    except (StoreError, TimeoutError, click.ClickException):
        return State(0, {})
