"""How long to wait before a request is tried again: exponential, with full jitter. Pure.

After M. Brooker, "Exponential Backoff And Jitter" (2015): of the ways to spread those that failed together, a
uniformly random time up to the exponential bound makes the least work for who is tried.
"""

from __future__ import annotations


def pause_s(number: int, first_s: float, longest_s: float, chance: float) -> float:
    """The pause before retry `number`, from 1. `chance` is from [0, 1)."""
    bound_s: float = first_s * 2 ** (number - 1)
    return min(longest_s, bound_s) * chance
