"""What people and programs may read and write: one collection for each kind of key.

The HTTP API, its description and the commands are all made from this table, and the table from the catalog's
decoders: a kind that gains a decoder, or a value type that gains a field, is taken everywhere at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from weldr.model.decode import DECODED, BackendObject, Fault, decode
from weldr.model.keys import (
    MOST_NAME_BYTES,
    NAMES_OF_KIND,
    REPORTED,
    KeyName,
    KeySpace,
    Kind,
    canonical_name,
    is_text,
    name_to_bytes,
)
from weldr.model.values import Instance, Value


@dataclass(frozen=True, slots=True)
class Collection:
    """All keys of one kind."""

    kind: Kind
    parts: tuple[str, ...]
    """What its names are called, such as `service` and `id`."""
    value_type: type[Any] | None
    """How its values are written, as a type; `None` where that is any JSON."""
    takes_text: bool
    """Whether a value may be text that is no JSON, such as an address."""
    writable: bool
    """Whether others than instances may write it."""
    secrets: frozenset[str]
    """Members of its values that are never shown. Of such values nothing is shown that is not `public`:
    somebody may have written a secret where it does not belong.
    """
    public: frozenset[str]
    """The other members that there are, if there are secrets."""

    @property
    def name(self) -> str:
        """The first segment of its keys."""
        return self.kind.value

    @property
    def layout(self) -> str:
        """How its keys are written, such as `routes/<name>`."""
        return "/".join([self.name, *(f"<{part}>" for part in self.parts)])


_WRITTEN_AS: dict[Kind, type[Any]] = {Kind.BACKEND: BackendObject, Kind.INSTANCE: Instance}
"""Where the type that a value is written in is not the one that its decoder returns."""

_SECRETS: dict[Kind, frozenset[str]] = {
    Kind.CERT: frozenset({"key"}),
    Kind.SECRET: frozenset({"key"}),
    Kind.STICKY_KEY: frozenset({"key"}),
    Kind.VIEWER: frozenset({"key"}),
}


def _collection(kind: Kind) -> Collection:
    decoder = DECODED.get(kind)
    value_type = _WRITTEN_AS.get(kind) or (get_type_hints(decoder)["return"] if decoder else None)
    secrets = _SECRETS.get(kind, frozenset())
    typed = frozenset(get_type_hints(value_type)) if value_type and secrets else frozenset()
    return Collection(
        kind=kind,
        parts=NAMES_OF_KIND[kind],
        value_type=value_type,
        takes_text=kind is Kind.BACKEND,
        writable=decoder is not None and kind not in REPORTED,
        secrets=secrets,
        public=typed - secrets,
    )


COLLECTIONS: Mapping[str, Collection] = {kind.value: _collection(kind) for kind in Kind}
"""By name."""


class PathError(ValueError):
    """Text that names no key; one line that says what to do."""


def path_of(name: KeyName) -> str:
    """How people name a key: without the prefix, as in `routes/cart`."""
    return "/".join([name.kind.value, *name.names])


def parse_path(text: str, keys: KeySpace) -> KeyName:
    """The key that `text` names; the prefix may stand before it.

    Raises `PathError`.
    """
    head, *names = text.removeprefix(keys.prefix).split("/")
    found = COLLECTIONS.get(head)
    if found is None:
        raise PathError(f"there is no collection {head!r}: expected one of {', '.join(COLLECTIONS)}")
    if len(names) != len(found.parts) or not all(names):
        raise PathError(f"{text!r} names no key: expected {found.layout}")
    if any(is_text(name) and len(name_to_bytes(name)) > MOST_NAME_BYTES for name in names):
        raise PathError(f"a name of more than {MOST_NAME_BYTES} bytes is not taken")
    return KeyName(found.kind, tuple(map(canonical_name, names)))


def parse_path_prefix(text: str, keys: KeySpace) -> tuple[Collection, tuple[str, ...]]:
    """A collection and the first of its names, maybe none and maybe all.

    Raises `PathError`.
    """
    head, *names = text.removeprefix(keys.prefix).rstrip("/").split("/")
    found = COLLECTIONS.get(head)
    if found is None:
        raise PathError(f"there is no collection {head!r}: expected one of {', '.join(COLLECTIONS)}")
    if len(names) > len(found.parts) or not all(names):
        raise PathError(f"{text!r} names no key: expected {found.layout}")
    return found, tuple(map(canonical_name, names))


def validate(kind: Kind, raw: bytes) -> Value | Fault:
    """What the catalog will make of a value.

    Raises `ValueError` for a collection that only instances write.
    """
    if not COLLECTIONS[kind.value].writable:
        raise ValueError(f"{kind} are written by weldr alone")
    return decode(kind, raw)
