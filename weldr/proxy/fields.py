"""The grammar of field sections, and the field names that mean something to weldr itself.

A section is kept as bytes in *canonical form*: each line is CRLF, name, colon, one space, value. Nearly all
peers send this form. What they send in another form that RFC 9112, section 5, allows is brought into it;
everything else is refused. So what is forwarded are only bytes that were understood, and in the form in which
weldr would write them itself.

The quantifiers are possessive: no input can make them backtrack.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t \x21-\x7e\x80-\xff]*+"
_CANONICAL_SECTION = re.compile(rb"(?:\r\n" + TOKEN + rb": (?![ \t])" + _VALUE + rb"(?<![ \t]))*+")
_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*+(" + _VALUE + rb")")
_STRAY_CONTROL = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

VIA_11 = b"\r\nVia: 1.1 weldr"
VIA_10 = b"\r\nVia: 1.0 weldr"

PROTECTED = frozenset((b"via", b"date", b"x-request-id"))
"""What `Connection` cannot have removed. Host, framing and the forwarded fields are out of its reach anyway,
since they are no lines of the section any more by then."""

REMEMBERED_SECTIONS = 512
"""Of so many sections, in each direction, the meaning is remembered, ..."""
MAX_REMEMBERED_SECTION_BYTES = 4096
"""... of none that is larger."""
_MAX_REMEMBERED_BYTES = 64


class MalformedFieldError(Exception):
    """A line of a section is no field. `line` counts from 1."""

    def __init__(self, line: int) -> None:
        super().__init__(f"field line {line} is malformed")
        self.line = line


def has_stray_control(data: bytes | bytearray, start: int, end: int = sys.maxsize) -> bool:
    """Whether there is a control character from `start` to `end` that no head holds, such as a CR or LF alone.

    So a head that never ends by our rules is refused when that is certain, and not when its time is over.
    """
    return _STRAY_CONTROL.search(data, start, end) is not None


def canonical(section: bytes) -> bytes:
    """The section, which begins with CRLF if it is not empty and has no CRLF at its end, in canonical form.

    Raises `MalformedFieldError`.
    """
    if _CANONICAL_SECTION.fullmatch(section):
        return section
    lines = []
    for number, line in enumerate(section[2:].split(b"\r\n"), 1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise MalformedFieldError(number)
        lines.append(b"\r\n" + found[1] + b": " + found[2].rstrip(b" \t"))
    return b"".join(lines)


def splitter(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """A pattern whose `split` takes these fields out of a canonical section.

    The result is what comes before the first of them, its name, its value, what comes before the second, and
    so on.
    """
    ordered = sorted(names)
    firsts = b"".join(bytes({name[0], name[0] ^ 0x20}) for name in ordered)
    # Alternatives by first letter: the engine leaves a line that is not meant after one comparison.
    grouped = b"|".join(
        first + b"(?:" + b"|".join(re.escape(name[1:]) for name in group) + b")"
        for first, group in groupby(ordered, lambda name: name[:1])
    )
    return re.compile(rb"\r\n(?=[" + firsts + rb"])((?i:" + grouped + rb")): ([^\r]*+)")


def connection_options(value: bytes) -> frozenset[bytes]:
    """The options of a `Connection` field, in lower case."""
    if len(value) <= _MAX_REMEMBERED_BYTES:
        return _remembered_options(value)
    return _options(value)


def _options(value: bytes) -> frozenset[bytes]:
    return frozenset(option.strip(b" \t") for option in value.lower().split(b",")) - {b""}


_remembered_options = lru_cache(maxsize=256)(_options)


def without(section: bytes, names: frozenset[bytes]) -> bytes:
    """The canonical section without the fields whose name, in lower case, is among `names`."""
    lines = section.split(b"\r\n")[1:]
    return b"".join(b"\r\n" + line for line in lines if line.partition(b":")[0].lower() not in names)


def content_length(value: bytes, earlier: int | None) -> int | None:
    """The number; `None` if it is none, overflows 63 bits, or differs from an `earlier` one.

    Fields that repeat the same number are the same as one (RFC 9110, section 8.6). A list within one field,
    which the RFC allows to be read so too, is not.
    """
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        return None
    length = int(value)
    return length if earlier is None or earlier == length else None


_MAX_LENGTH_DIGITS = 18
