"""Decisions read from a string of bytes, so that hypothesis draws one value and not hundreds.

It still shrinks: zeros, and what lies behind the end, choose the first and simplest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """See the module."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def number(self) -> int:
        """From 0 to 255."""
        return next(self._bytes, 0)

    def large_number(self) -> int:
        """From 0 to 65535."""
        return self.number() << 8 | self.number()

    def pick(self, values: Sequence[T]) -> T:
        return values[self.number() % len(values)]

    def one_in(self, many: int) -> bool:
        return self.number() % many == many - 1

    def few(self, most: int) -> range:
        """A number of times, most often few."""
        return range(min(self.number() % (2 * most + 1), self.number() % (most + 1)))
