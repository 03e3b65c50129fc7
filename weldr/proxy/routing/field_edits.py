"""Changes to the fields of a message, on its lines in canonical form. Pure."""

from __future__ import annotations

import re

from weldr.model.routes import FieldEdits
from weldr.proxy.fields import without


class CompiledEdits:
    """First `remove`, then `set`, then `add`. The last result is kept: often the next lines are the same."""

    __slots__ = ("_added", "_lines", "_look_alikes", "_removed", "_result")

    def __init__(self, edits: FieldEdits, *, look_alikes: bool = False) -> None:
        """With `look_alikes`, what goes also does with underscores in place of hyphens: CGI and its kin, WSGI
        among them, cannot tell the two apart, and a client could send what only the route is to say.
        """
        self._removed = frozenset(name.lower().encode("ascii") for name in (*edits.remove, *edits.set))
        self._look_alikes = look_alikes and any(b"-" in name for name in self._removed)
        self._added = b"".join(
            b"\r\n" + name.encode("ascii") + b": " + value.encode("utf-8")
            for values in (edits.set, edits.add)
            for name, value in values.items()
        )
        self._lines = self._result = b""

    def without_removed(self, lines: bytes) -> bytes:
        """The lines of an interim response or of a trailer section: what is to be in a message comes in its
        final head, but what is not to be in it goes here, too.
        """
        if not self._removed:
            return lines
        names = self._removed
        if self._look_alikes:
            names |= {name for name in _UNDERSCORED.findall(lines.lower()) if name.replace(b"_", b"-") in names}
        return without(lines, names)

    def apply(self, lines: bytes) -> bytes:
        """The lines after the changes."""
        if lines is not self._lines:
            self._result = self.without_removed(lines) + self._added
            self._lines = lines
        return self._result


_UNDERSCORED = re.compile(rb"\r\n([^:_]*+_[^:]*+):")


def compiled_edits(edits: FieldEdits, *, look_alikes: bool = False) -> CompiledEdits | None:
    """`None` if there are none."""
    return None if edits == FieldEdits() else CompiledEdits(edits, look_alikes=look_alikes)
