"""The bytes that go through the proxies. Origin and load make the same ones, so that each checks the other."""

from __future__ import annotations

import random

_random = random.Random(100)

SMALL = _random.randbytes(100)
POSTED = _random.randbytes(16 * 1024)
MEDIUM = _random.randbytes(64 * 1024)
LARGE = _random.randbytes(10 * 1024 * 1024)
MESSAGE = _random.randbytes(100)

ANSWERS = {b"/small": SMALL, b"/medium": MEDIUM, b"/large": LARGE, b"/post": SMALL, b"/": SMALL}
"""What the origin answers under each path."""
