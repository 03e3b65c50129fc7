"""Values as JSON documents: what of a value is shown, sent and merged.

A value that is no JSON, such as `10.0.0.5:8080`, is shown as JSON text; so JSON text, written, stands for what
is in its quotes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from weldr.model.certificates import certificates_in
from weldr.model.collections import Collection
from weldr.model.json_faults import json_fault
from weldr.model.keys import Kind

MAX_DEPTH = 64
"""Deeper than any honest value."""


class DocumentError(ValueError):
    """No JSON; `place` is where in the text."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def document_of(raw: bytes) -> Any:
    """The value as JSON: an object as it is, everything else as text."""
    text = raw.decode("utf-8", "backslashreplace")
    if not text.lstrip().startswith("{"):
        return text
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text
    return found if depth_of(found) <= MAX_DEPTH else text


def raw_of(document: Any) -> bytes:
    """The value as etcd is to keep it. The inverse of `document_of` for every value that can be understood."""
    if isinstance(document, str):
        return document.encode("utf-8", "surrogatepass")
    return msgspec.json.encode(document)


def raw_of_body(body: bytes) -> bytes:
    """The value that a body stands for: itself, as etcdctl would put it, or what JSON text quotes."""
    stripped = body.strip()
    if not stripped.startswith(b'"'):
        return stripped
    try:
        found = msgspec.json.decode(stripped, type=str)
    except msgspec.MsgspecError:
        return stripped
    return found.encode("utf-8")


def parse_json(text: bytes) -> Any:
    """Any JSON.

    Raises `DocumentError`.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise DocumentError(f"byte {error.start}", "the text is not UTF-8") from None
    try:
        found = msgspec.json.decode(decoded)
    except msgspec.DecodeError as error:
        raise DocumentError(*json_fault(decoded, error)) from None
    except RecursionError:
        raise DocumentError("$", "the JSON is nested too deeply") from None
    if depth_of(found) > MAX_DEPTH:
        raise DocumentError("$", "the JSON is nested too deeply")
    return found


def depth_of(document: Any) -> int:
    """How many objects and lists are in each other at most. Looks no deeper than is allowed."""
    level, depth = [document], 0
    while level and depth <= MAX_DEPTH:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        depth += any(isinstance(value, dict | list) for value in level)
        level = inner
    return depth


def merged(target: Any, patch: Any) -> Any:
    """`target` after a JSON merge patch (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def patched(collection: Collection, raw: bytes, patch: Any) -> bytes:
    """A stored value after a merge patch. An address alone is taken for the object that says the same."""
    document = document_of(raw)
    if isinstance(document, str) and collection.takes_text and isinstance(patch, dict):
        document = {"url": document.strip()}
    return raw_of(merged(document, patch))


def shown(collection: Collection, raw: bytes) -> Any:
    """The value as JSON, without what is secret."""
    document = document_of(raw)
    if not collection.secrets:
        return document
    if not isinstance(document, dict):
        return None
    found = {name: value for name, value in document.items() if name in collection.public}
    if collection.kind is Kind.CERT:
        # People keep both in one file, and paste all of it.
        return {name: certificates_in(value) for name, value in found.items()}
    return found


def same(before: bytes, after: bytes) -> bool:
    """Whether two values say the same, however they are written."""
    if before == after:
        return True
    sides = [document_of(raw) for raw in (before, after)]
    if not all(isinstance(side, dict) for side in sides):
        return False
    # As text, since to Python 1 is the same as true.
    first, second = (msgspec.json.encode(side, order="sorted") for side in sides)
    return first == second
