"""What every policy can do, and what it asks of a member."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Protocol, TypeVar

from weldr.proxy.balancing.latency import PeakLatency

Chance = Callable[[], float]
"""Gives numbers from [0, 1)."""


class Member(Hashable, Protocol):
    """A backend as the policies see it. It is equal to itself only."""

    in_flight: int
    latency: PeakLatency | None
    """Kept while the policy asks for it."""

    @property
    def full(self) -> bool:
        """Whether it can take no further request now."""


MemberType = TypeVar("MemberType", bound=Member)
AnyMember = TypeVar("AnyMember", bound=Hashable)
"""For policies that look at nothing but the weight."""


class Balancer(Protocol[AnyMember]):
    """Picks members by their weights. Its members change in place: one change costs no look at the others."""

    def pick(
        self, excluded: Collection[AnyMember], key: int | None = None, now_s: float = 0.0
    ) -> AnyMember | None:
        """The next member that is not excluded; `None` if there is none.

        `key` is 64 bits for what the request goes by, `None` if there is no such thing; `now_s` is the time.
        Only few policies look at them.
        """

    def put(self, member: AnyMember, weight: int) -> None:
        """Add a member, or change its weight, which is above 0."""

    def remove(self, member: AnyMember) -> None:
        """Forget a member, if it is one."""
