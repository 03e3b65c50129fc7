"""Examples at the end of a command's help."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """The end of a command's help, as click takes it: shown as it stands."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
