"""Where JSON cannot be read, and why, for what the decoder says too little of."""

from __future__ import annotations

import math
import re

import msgspec

_HALF_OF_PAIR = re.compile(r"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u)")
# A text without an end is taken as far as it can be read: from each quote in it anew would take for ever.
_TEXT_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"?|(-?[0-9][0-9.eE+-]*)')


def json_fault(text: str, error: msgspec.DecodeError) -> tuple[str, str]:
    """The place in the text, such as `byte 5`, and the reason, which quotes nothing that may be secret."""
    reason, _, position = str(error).partition(" (byte ")
    if position:
        return f"byte {position.rstrip(')')}", reason
    if "truncated" in reason:
        half = _HALF_OF_PAIR.search(text)
        if half is None:
            return "$", "the JSON ends before it is complete"
        return _byte(text, half.start(1)), f"{half[1]} is half of a pair, and no text without its other half"
    if "out of range" in reason:
        return _place_of_large_number(text), "the number is out of range"
    return "$", reason


def _place_of_large_number(text: str) -> str:
    for found in _TEXT_OR_NUMBER.finditer(text):
        if found[1] is not None and _is_too_large(found[1]):
            return _byte(text, found.start(1))
    return "$"


def _is_too_large(number: str) -> bool:
    try:
        return math.isinf(float(number))
    except ValueError:
        return False


def _byte(text: str, place: int) -> str:
    return f"byte {len(text[:place].encode('utf-8', 'surrogatepass'))}"
