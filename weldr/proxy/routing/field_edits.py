"""Changes to the fields of a message, on its lines in canonical form. Pure."""

from __future__ import annotations

from weldr.model.routes import FieldEdits
from weldr.proxy.fields import without


class CompiledEdits:
    """First `remove`, then `set`, then `add`. The last result is kept: often the next lines are the same."""

    __slots__ = ("_added", "_lines", "_removed", "_result")

    def __init__(self, edits: FieldEdits) -> None:
        self._removed = frozenset(name.lower().encode("ascii") for name in (*edits.remove, *edits.set))
        self._added = b"".join(
            b"\r\n" + name.encode("ascii") + b": " + value.encode("utf-8")
            for values in (edits.set, edits.add)
            for name, value in values.items()
        )
        self._lines = self._result = b""

    def apply(self, lines: bytes) -> bytes:
        """The lines after the changes."""
        if lines is not self._lines:
            self._result = (without(lines, self._removed) if self._removed else lines) + self._added
            self._lines = lines
        return self._result


def compiled_edits(edits: FieldEdits) -> CompiledEdits | None:
    """`None` if there are none."""
    return None if edits == FieldEdits() else CompiledEdits(edits)
