"""Two balancers as one: the members of the own zone before the others.

All requests stay in the own zone while enough of it is usable. With less, the share that stays falls in
proportion, so that what is left there gets no more than its part; the rest goes to the other zones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Generic

from weldr.proxy.balancing.balancer import AnyMember, Balancer

_KEY_SPACE = 1 << 64
_MIX = 0x9E3779B97F4A7C15


class ZonePreference(Generic[AnyMember]):
    """A `Balancer`."""

    __slots__ = ("_is_own", "_others", "_owed", "_own", "share")

    def __init__(
        self,
        own: Balancer[AnyMember],
        others: Balancer[AnyMember],
        is_own: Callable[[AnyMember], bool],
    ) -> None:
        self._own = own
        self._others = others
        self._is_own = is_own
        self.share = 1.0
        """Of the requests, that stays in the own zone if it can."""
        self._owed = 0.0

    def pick(
        self, excluded: Collection[AnyMember], key: int | None = None, now_s: float = 0.0
    ) -> AnyMember | None:
        """A member of the own zone, or of the others if that has no share in this request or nobody for it."""
        if self.share >= 1.0 or self._stays(key):
            first, second = self._own, self._others
        else:
            first, second = self._others, self._own
        member = first.pick(excluded, key, now_s)
        return second.pick(excluded, key, now_s) if member is None else member

    def _stays(self, key: int | None) -> bool:
        if key is not None:
            # Mixed, since the balancers themselves go by the upper bits.
            return key * _MIX % _KEY_SPACE < self.share * _KEY_SPACE
        self._owed += self.share
        if self._owed >= 1.0:
            self._owed -= 1.0
            return True
        return False

    def put(self, member: AnyMember, weight: int) -> None:
        """Add a member, or change its weight. One whose zone has changed is removed first."""
        (self._own if self._is_own(member) else self._others).put(member, weight)

    def remove(self, member: AnyMember) -> None:
        """Forget a member, if it is one."""
        self._own.remove(member)
        self._others.remove(member)
