"""`GET /api/v1/leases/<service>`: how long the leases of a service's backends have left.

Only etcd's leader knows that. So it is asked for one service at a time, each lease at most once a second
however many look, and never for more than a bounded number at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from http import HTTPStatus

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint, Parameter
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.problem import ProblemError
from weldr.etcd.client import EtcdClient
from weldr.etcd.errors import EtcdError, EtcdLeaseNotFoundError
from weldr.model.keys import Kind, canonical_name

SERVICE = Parameter(
    "service", "Its name, as keys have it.", {"type": "string", "pattern": "^[^/]+$"}, required=True
)
MOST_LEASES = 100
"""Of one service."""
_AT_A_TIME = 16
_FRESH_S = 1.0
_MOST_WAITING = 4
_ASK_S = 2.0


class LeaseTime(msgspec.Struct, frozen=True):
    """A lease, by etcd's clock, in whole seconds. 0 left is less than one."""

    ttl_s: int
    left_s: int


class LeaseTimes(msgspec.Struct, frozen=True):
    """By the backend's id, the first of them that have a lease. What etcd did not tell is left out."""

    service: str
    backends: dict[str, LeaseTime]


class LeaseTimesEndpoint:
    """Handles it."""

    def __init__(self, client: EtcdClient, mirror: Mirror) -> None:
        self._client = client
        self._mirror = mirror
        self._known: OrderedDict[int, tuple[float, LeaseTime | None]] = OrderedDict()
        self._asking = asyncio.Semaphore(_AT_A_TIME)
        self._under_way = 0

    def endpoints(self) -> list[Endpoint]:
        """Both."""
        return [
            Endpoint(
                "GET",
                "/api/v1/leases/{service}",
                "leases",
                "How long the leases of a service's backends have left",
                lambda call: self._serve(call.names[0]),
                {200: LeaseTimes},
            ),
            Endpoint(
                "GET",
                "/api/v1/leases",
                "leases_by_name",
                "The same for a service whose name browsers leave out of a path: `.` and `..`",
                lambda call: self._serve(self._named(call)),
                {200: LeaseTimes},
                (SERVICE,),
            ),
        ]

    @staticmethod
    def _named(call: Call) -> str:
        name = call.text(SERVICE.name)
        if not name or "/" in name:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "service is missing, empty or holds a slash")
        return canonical_name(name)

    async def _serve(self, service: str) -> web.Response:
        leases = {}
        for pair in self._mirror.of_kind(Kind.BACKEND, service):
            if pair.lease:
                leases[self._mirror.keys.parse(pair.key).names[1]] = pair.lease
            if len(leases) >= MOST_LEASES:
                break
        if self._under_way >= _MOST_WAITING:
            detail = "etcd is being asked for leases already: try again"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        self._under_way += 1
        try:
            # A program may have many registrations under one lease.
            asked = list(set(leases.values()))
            times = dict(zip(asked, await asyncio.gather(*map(self._time, asked)), strict=True))
        finally:
            self._under_way -= 1
        found = {name: time for name, lease in leases.items() if (time := times[lease]) is not None}
        return json_answer(LeaseTimes(service, found))

    async def _time(self, lease: int) -> LeaseTime | None:
        now_s = asyncio.get_running_loop().time
        known = self._known.get(lease)
        if known is not None and now_s() - known[0] < _FRESH_S:
            return known[1]
        async with self._asking:
            try:
                answer = await self._client.time_to_live(lease, timeout_s=_ASK_S)
                found = LeaseTime(answer.granted_ttl_s, answer.left_s)
            except EtcdLeaseNotFoundError:
                found = None
            except EtcdError:
                return None
        self._known[lease] = now_s(), found
        self._known.move_to_end(lease)
        while len(self._known) > MOST_LEASES * _MOST_WAITING:
            self._known.popitem(last=False)
        return found
