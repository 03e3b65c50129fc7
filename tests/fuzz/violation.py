"""The one exception that a fuzzed run may end with."""

from __future__ import annotations


class ViolationError(AssertionError):
    """weldr did what it must not."""


def require(condition: bool, what: str) -> None:
    """Raises `ViolationError` if the condition does not hold."""
    if not condition:
        raise ViolationError(what)
