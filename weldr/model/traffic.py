"""What workers serve: the part of the catalog that decides where a request goes, and differences of it.

A `Traffic` is immutable and shares what did not change with the one before it. A worker is sent differences
only; its first one is the difference from nothing, so that a snapshot and a change take the same path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

import msgspec

from weldr.model.values import Backend, Route, Service, Settings

DEFAULT_SERVICE = "default"
"""Takes the requests that no route takes."""


class ServiceTraffic(msgspec.Struct, frozen=True):
    """A service: its policy and its backends by id, the operator's overrides applied."""

    policy: Service = Service()
    backends: Mapping[str, Backend] = MappingProxyType({})


class Traffic(msgspec.Struct, frozen=True):
    """Services and routes by name, and the settings."""

    services: Mapping[str, ServiceTraffic] = MappingProxyType({})
    routes: Mapping[str, Route] = MappingProxyType({})
    settings: Settings = Settings()
    sticky_key: bytes = b""
    """What the cookies of sticky services are signed with; secret. Empty while there is none."""


class ServiceDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changed in one service; `policy` is `None` if it did not."""

    policy: Service | None = None
    put: dict[str, Backend] = {}
    removed: list[str] = []


class TrafficDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changed from one `Traffic` to the next."""

    services: dict[str, ServiceDelta] = {}
    services_removed: list[str] = []
    routes: dict[str, Route] = {}
    routes_removed: list[str] = []
    settings: Settings | None = None
    sticky_key: bytes | None = None

    def __bool__(self) -> bool:
        return self != _NOTHING


_NOTHING = TrafficDelta()


def difference(old: Traffic, new: Traffic) -> TrafficDelta:
    """What turns `old` into `new` by `apply`. Looks once at each service, and closer only at changed ones."""
    if old is new:
        return _NOTHING
    services: dict[str, ServiceDelta] = {}
    if old.services is not new.services:
        for name, service in new.services.items():
            before = old.services.get(name)
            if before is not service:
                services[name] = _service_difference(before, service)
    routes = {}
    if old.routes is not new.routes:
        routes = {name: route for name, route in new.routes.items() if not _same(old.routes.get(name), route)}
    return TrafficDelta(
        services={name: delta for name, delta in services.items() if delta is not _UNCHANGED},
        services_removed=_missing(old.services, new.services),
        routes=routes,
        routes_removed=_missing(old.routes, new.routes),
        settings=None if old.settings == new.settings else new.settings,
        sticky_key=None if old.sticky_key == new.sticky_key else new.sticky_key,
    )


_UNCHANGED = ServiceDelta()


def _service_difference(old: ServiceTraffic | None, new: ServiceTraffic) -> ServiceDelta:
    if old is None:
        return ServiceDelta(policy=new.policy, put=dict(new.backends))
    # Of ten thousand backends nearly all are the same objects: nothing but that is asked of them.
    held = old.backends.get
    put = {
        backend_id: backend
        for backend_id, backend in new.backends.items()
        if (before := held(backend_id)) is not backend and before != backend
    }
    removed = _missing(old.backends, new.backends)
    policy = None if old.policy == new.policy else new.policy
    if policy is None and not put and not removed:
        return _UNCHANGED
    return ServiceDelta(policy=policy, put=put, removed=removed)


def _same(old: object, new: object) -> bool:
    return old is new or old == new


def _missing(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return [] if old is new or old.keys() <= new.keys() else [name for name in old if name not in new]


def apply(traffic: Traffic, delta: TrafficDelta) -> Traffic:
    """The `Traffic` after the difference. What the difference does not name stays the same object."""
    services, routes = traffic.services, traffic.routes
    if delta.services or delta.services_removed:
        changed = {
            name: _apply_to_service(services.get(name, ServiceTraffic()), change)
            for name, change in delta.services.items()
        }
        services = _changed(services, changed, delta.services_removed)
    if delta.routes or delta.routes_removed:
        routes = _changed(routes, delta.routes, delta.routes_removed)
    return Traffic(
        services=services,
        routes=routes,
        settings=traffic.settings if delta.settings is None else delta.settings,
        sticky_key=traffic.sticky_key if delta.sticky_key is None else delta.sticky_key,
    )


def _apply_to_service(service: ServiceTraffic, delta: ServiceDelta) -> ServiceTraffic:
    return ServiceTraffic(
        policy=service.policy if delta.policy is None else delta.policy,
        backends=_changed(service.backends, delta.put, delta.removed),
    )


T = TypeVar("T")


def _changed(mapping: Mapping[str, T], put: Mapping[str, T], removed: Iterable[str]) -> dict[str, T]:
    copy = dict(mapping)
    copy.update(put)
    for name in removed:
        copy.pop(name, None)
    return copy
