"""What may have been meant by a word in a value that nobody knows, from the types that the value may have."""

from __future__ import annotations

import difflib
import re
from types import UnionType
from typing import Annotated, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

import msgspec


def with_suggestion(reason: str, place: str, into: object) -> str:
    """The reason, for an unknown field or word with what may have been meant at that place of an `into`."""
    types = _types_at(place, into)
    field = re.search(r"unknown field `(.*)`", reason)
    word = re.search(r"Invalid enum value '(.*)'", reason)
    if field is not None:
        names = [
            item.encode_name for each in types if _is_struct(each) for item in msgspec.structs.fields(each)
        ]
    elif word is not None:
        names = [str(name) for each in types if get_origin(each) is Literal for name in get_args(each)]
    else:
        return reason
    if not names:
        return reason
    found = field or word
    assert found is not None
    close = difflib.get_close_matches(found[1], names, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"expected one of {', '.join(names)}"
    return f"{reason}: {hint}"


def _types_at(place: str, into: object) -> list[object]:
    """The types that may stand at a place such as `$.timeouts` or `$.headers[...]`."""
    types = _alternatives(into)
    for name, _ in re.findall(r"\.(\w+)|(\[)", place):
        inner: list[object] = []
        for each in types:
            if name and _is_struct(each):
                inner += _alternatives(get_type_hints(each, include_extras=True).get(name))
            elif not name and get_origin(each) in (dict, list, tuple):
                inner += [kind for argument in get_args(each) for kind in _alternatives(argument)]
        types = inner
    return types


def _alternatives(kind: object) -> list[object]:
    """The type without `Annotated`, or each of a union."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [inner for argument in get_args(kind) for inner in _alternatives(argument)]
    return [kind]


def _is_struct(candidate: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(candidate, type) and issubclass(candidate, msgspec.Struct)
