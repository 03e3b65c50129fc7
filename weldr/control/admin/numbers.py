"""`GET /api/v1/numbers`: what the whole fleet does now and did in the last two minutes, for the dashboard.

Whoever asks, looks: the other instances send their numbers here for as long as somebody asks again within
10 s. See `weldr/control/fleet`.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from weldr.control.admin.endpoint import Call, Endpoint, Parameter
from weldr.control.admin.key_endpoints import json_answer
from weldr.control.admin.mirror import Mirror
from weldr.control.fleet.fleet import Fleet
from weldr.control.fleet.merged import Merged, Rates
from weldr.control.fleet.samples import KEPT_SLOTS, SLOT_S
from weldr.model.keys import Kind

_SLOTS_AT_ONCE = 5
_LATE_S = 3 * SLOT_S

SINCE_SLOT = Parameter(
    "since_slot",
    "Only the slots after this one; all of them again if `epoch` is another than before.",
    {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
)
EPOCH = Parameter(
    "epoch", "What the last answer said.", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
)


class InstanceNumbers(msgspec.Struct, frozen=True):
    """An instance now. `reason` says why there are no numbers, if there are none."""

    reason: str = ""
    connections: int | None = None
    in_flight: int | None = None
    requests_per_s: float | None = None
    workers: int | None = None
    serving: int | None = None
    """Of the workers."""
    follows_etcd: bool | None = None
    """If not, it serves what it last knew."""


class Slot(msgspec.Struct, frozen=True):
    """Two seconds. A service without requests is left out."""

    number: int
    services: dict[str, Rates]


class Numbers(msgspec.Struct, frozen=True):
    """The whole fleet. The service with the empty name stands for requests that reached none."""

    instance: str
    slot_s: float
    epoch: int
    last_slot: int
    instances: dict[str, InstanceNumbers]
    services: dict[str, Rates]
    """Over the last 10 s."""
    backends: dict[str, dict[str, list[float]]]
    """By service and id: requests/s and errors/s over the last 10 s, and requests in flight now."""
    slots: list[Slot]
    left_out: int
    """Services and backends that got requests and are not here, since there are too many."""


class NumbersEndpoint:
    """Handles it."""

    def __init__(self, mirror: Mirror, fleet: Fleet, instance: str) -> None:
        self._mirror = mirror
        self._fleet = fleet
        self._instance = instance

    def endpoints(self) -> list[Endpoint]:
        """The one that there is."""
        return [
            Endpoint(
                "GET",
                "/api/v1/numbers",
                "numbers",
                "What all instances do now: requests, errors and latencies by service, loads by backend",
                self._serve,
                {200: Numbers},
                (SINCE_SLOT, EPOCH),
            )
        ]

    async def _serve(self, call: Call) -> web.Response:
        since, epoch = call.number(SINCE_SLOT.name), call.number(EPOCH.name)
        merged = self._fleet.look()
        first = merged.complete - KEPT_SLOTS + 2
        if since is not None and epoch == merged.epoch:
            first = max(first, since + 1)
        found_epoch, last = merged.epoch, merged.complete
        slots = []
        for index, number in enumerate(range(first, last + 1), 1):
            if number in merged.slots:
                slots.append(Slot(number, merged.rates(number)))
            if index % _SLOTS_AT_ONCE == 0:
                await asyncio.sleep(0)
        heard = merged.heard()
        return json_answer(
            Numbers(
                instance=self._instance,
                slot_s=SLOT_S,
                epoch=found_epoch,
                last_slot=last,
                instances=self._instances(merged, self._fleet.address),
                services=merged.services_now(),
                backends=merged.backends_now(),
                slots=slots,
                left_out=sum(sample.left_out for sample, _ in heard.values()),
            )
        )

    def _instances(self, merged: Merged, address: str) -> dict[str, InstanceNumbers]:
        heard, now_s = merged.heard(), asyncio.get_running_loop().time()
        found = {}
        for pair in self._mirror.of_kind(Kind.INSTANCE):
            name = self._mirror.keys.parse(pair.key).names[0]
            if name not in heard:
                found[name] = InstanceNumbers(
                    reason=f"no numbers from it yet: it has to reach {address} (TCP)"
                    if address
                    else "no numbers yet"
                )
                continue
            sample, heard_s = heard[name]
            found[name] = InstanceNumbers(
                reason=f"no numbers for {now_s - heard_s:.0f} s" if now_s - heard_s > _LATE_S else "",
                connections=sample.connections,
                in_flight=sample.in_flight,
                requests_per_s=round(sum(c.requests for c in sample.services.values()) / SLOT_S, 2),
                workers=sample.workers,
                serving=sample.serving,
                follows_etcd=sample.follows,
            )
        return found
