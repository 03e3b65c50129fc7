"""One thing that was looked at, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Something does not work, or soon will not."""
    WARNING = "warning"
    """It works, but not as well, or not through the next failure."""
    OK = "ok"
    UNKNOWN = "unknown"
    """It cannot be seen from here."""


_ORDER = list(Level)


class Finding(msgspec.Struct, frozen=True):
    """`do` is empty where nothing is to be done."""

    level: Level
    area: str
    found: str
    do: str = ""


def in_order(findings: list[Finding]) -> list[Finding]:
    """The worst first; else as it was looked at, since what comes later may follow from what came before."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.level))
