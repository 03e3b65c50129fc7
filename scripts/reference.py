"""`scripts/reference [--check]`: writes docs/reference.md from the types of the values.

The words are those that stand behind each field in the source. A field without any is an error: whoever adds
one says what it means.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from weldr.model import decode
from weldr.model.keys import NAMES_OF_KIND, Kind

_TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference.md"

_HEAD = """\
# Reference

Every member of every value, made from the types by `scripts/reference`: not to be edited by hand. All keys
are under `/weldr/` (`--prefix`). A value is JSON; all members are optional unless the default says
*required*, and `null` is the same as leaving a member out where there is no default. A member that is not
known, or is out of its bounds, makes the whole value be refused: the key then keeps its last good value, and
the problem is shown.

Which route takes a request: of those that match, the one with the highest `priority`; then an exact host
before `*.` before none, a longer `*.` before a shorter one; then an exact path before the longest prefix
before a glob before an expression before none; then more conditions before fewer; then the name that sorts
first. Paths are compared in normal form: `/%61`, `//a` and `/x/../a` are all `/a`. What is forwarded stays as
it came, but for `strip_prefix` and `add_prefix`.
A path that backends understand in two ways, such as `/a//../b`, which is `/b` or `/a/b`, is refused with 400.

Of routes that ask for just the same, the one that was written last is refused, and so is one whose mirror would
close a circle of mirrors: as if it could not be understood, until the other goes or is changed.
"""

_NOTES = {
    Kind.BACKEND: "Also just an address, `10.0.0.5:8080` or `http://10.0.0.5:8080`, and what go-zero, kratos,"
    " etcd's gRPC naming, SkyDNS and vulcand write.",
    Kind.OVERRIDE: "The operator's word, which no registration undoes. What is not given stays as it is.",
    Kind.SERVICE: "A service exists as soon as it has a backend; it needs no such key.",
}
_WRITTEN_AS: dict[Kind, type[Any]] = {Kind.BACKEND: decode.BackendObject}
_WORDS = {
    str: "text",
    bytes: "bytes",
    bool: "boolean",
    datetime: "time (RFC 3339, with a zone)",
    NoneType: "null",
}


class Row(NamedTuple):
    """A member."""

    name: str
    kind: str
    default: str
    meaning: str


class MissingWordError(Exception):
    """A field of which nothing is said."""


def reference() -> str:
    """The whole text."""
    parts = [_HEAD]
    for kind, decoder in decode.DECODED.items():
        struct = _WRITTEN_AS.get(kind) or get_type_hints(decoder)["return"]
        layout = "/".join([kind.value, *(f"<{name}>" for name in NAMES_OF_KIND[kind])])
        parts += [f"## `{layout}`\n", _NOTES.get(kind) or _sentence(struct), "\n"]
        parts += ["| member | type | default | meaning |", "| --- | --- | --- | --- |"]
        parts += [f"| `{row.name}` | {row.kind} | {row.default} | {row.meaning} |" for row in rows(struct)]
        parts.append("")
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def rows(struct: type[msgspec.Struct], before: str = "") -> Iterator[Row]:
    """The members of a struct, those of structs within it after each."""
    words = words_of(struct)
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        name = f"{before}{field.encode_name}"
        hint = hints[field.name]
        if field.name not in words:
            raise MissingWordError(f"{struct.__module__}.{struct.__qualname__}.{field.name} has no docstring")
        inner = _structs(hint)
        yield Row(name, _kind(hint, field.name), _default(field, bool(inner)), _cell(words[field.name]))
        for steps, each in inner:
            yield from rows(each, f"{name}{steps}.")


def words_of(struct: type[Any]) -> dict[str, str]:
    """What is said of each field in the source: the string behind it."""
    module = ast.parse(Path(inspect.getfile(struct)).read_text())
    [body] = [
        node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name == struct.__name__
    ]
    return {
        field.target.id: str(word.value.value)
        for field, word in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(word, ast.Expr)
        and isinstance(word.value, ast.Constant)
    }


def _structs(hint: Any) -> list[tuple[str, type[msgspec.Struct]]]:
    """The structs in a type, with how one gets there: by a name, by a place in a list, or directly."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _structs(get_args(hint)[0])
    if origin is dict:
        return [(f".<name>{steps}", each) for steps, each in _structs(get_args(hint)[1])]
    if origin in (list, tuple):
        return [(f"[]{steps}", each) for steps, each in _structs(get_args(hint)[0])]
    if origin in (Union, UnionType):
        return [found for argument in get_args(hint) for found in _structs(argument)]
    return [("", hint)] if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else []


def _kind(hint: Any, name: str, bounds: str = "") -> str:
    """The type in words, with unit and bounds."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        several = arguments[0] is bytes or get_origin(arguments[0]) in (list, tuple, dict)
        return _kind(arguments[0], name, _bounds(arguments[1:], "of them" if several else "characters"))
    if origin is Literal:
        return " or ".join(f"`{_json(value)}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_kind(each, name, bounds) for each in arguments if each is not NoneType)
    if origin in (list, tuple):
        return f"list of {_kind(arguments[0], '')}{bounds}"
    if origin is dict:
        return f"object: by name, {_kind(arguments[1], '')}"
    if hint in (int, float):
        return _number(hint, name) + bounds
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "object"
    return _WORDS.get(hint, str(hint)) + bounds


def _number(hint: type, name: str) -> str:
    for end, unit in (("_s", "seconds"), ("_bytes", "bytes"), ("_ms", "milliseconds")):
        if name.endswith(end) and not name.endswith("_per_s"):
            return unit
    return "integer" if hint is int else "number"


def _bounds(metas: tuple[Any, ...], counted: str) -> str:
    parts = []
    for meta in metas:
        if not isinstance(meta, msgspec.Meta):
            continue
        if meta.ge is not None and meta.le is not None:
            parts.append(f"{meta.ge} to {meta.le}")
        else:
            parts += [f"at least {meta.ge}"] if meta.ge is not None else []
            parts += [f"above {meta.gt}"] if meta.gt is not None else []
            parts += [f"at most {meta.le}"] if meta.le is not None else []
            parts += [f"below {meta.lt}"] if meta.lt is not None else []
        if meta.max_length is not None:
            parts.append(f"at most {meta.max_length} {counted}")
    return f", {', '.join(parts)}" if parts else ""


def _default(field: msgspec.structs.FieldInfo, is_object: bool) -> str:
    if field.required:
        return "*required*"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "none"
    if is_object and isinstance(value, msgspec.Struct):
        return ""
    return f"`{_json(value)}`"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sentence(struct: type[Any]) -> str:
    return _cell((inspect.getdoc(struct) or "").split("\n\n", maxsplit=1)[0])


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|").replace("`None`", "`null`")


def main() -> None:
    text = reference()
    if sys.argv[1:] == ["--check"]:
        if _TARGET.read_text() != text:
            sys.exit("docs/reference.md is not up to date: run scripts/reference")
    else:
        _TARGET.write_text(text)


if __name__ == "__main__":
    try:
        main()
    except MissingWordError as error:
        sys.exit(f"reference: {error}: say in one line what it means")
