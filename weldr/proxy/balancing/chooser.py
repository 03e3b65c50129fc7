"""The choice for one request, where that takes more than the balancer: its cookie, its key, the time."""

from __future__ import annotations

from collections.abc import Collection

from weldr.proxy.balancing.balancer import Balancer
from weldr.proxy.balancing.request_key import RequestKey
from weldr.proxy.balancing.sticky import StickyCookie
from weldr.proxy.pool import BackendPool
from weldr.proxy.request_head import RequestHead


class Chooser:
    """Of one service."""

    __slots__ = ("_balancer", "_key", "_members", "_sticky")

    def __init__(
        self,
        balancer: Balancer[BackendPool],
        key: RequestKey | None,
        sticky: StickyCookie[BackendPool] | None,
        members: Collection[BackendPool],
    ) -> None:
        """`members` are those that get requests, as they are at any time."""
        self._balancer = balancer
        self._key = key
        self._sticky = sticky
        self._members = members

    def pick(
        self, excluded: Collection[BackendPool], head: RequestHead, client: str, now_s: float
    ) -> BackendPool | None:
        """The backend that this request goes to."""
        if self._sticky is not None:
            own = self._sticky.member(head)
            if own is not None and own not in excluded and not own.full and self._may_have(own, now_s):
                return own
        key = None if self._key is None else self._key(head, client)
        return self._balancer.pick(excluded, key, now_s)

    def sticks(self, head: RequestHead, pool: BackendPool, now_s: float) -> bool:
        """Whether the request came with this backend's cookie, and may go there for that."""
        return self._sticky is not None and self._sticky.member(head) is pool and self._may_have(pool, now_s)

    def cookie_line(
        self, tried: Collection[BackendPool], head: RequestHead, pool: BackendPool, now_s: float
    ) -> bytes:
        """The field line that binds the client to the backend that it got; empty if there is no need of one.

        A client whose own backend is only busy keeps that one's cookie.
        """
        if self._sticky is None:
            return b""
        own = self._sticky.member(head)
        if own is not None and own not in tried and self._may_have(own, now_s):
            return b""
        return self._sticky.line(pool)

    def _may_have(self, own: BackendPool, now_s: float) -> bool:
        return own in self._members or (own.stopped and now_s < own.sticky_until_s)
