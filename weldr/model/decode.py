"""Bytes of a value to a checked value, or the exact place where it cannot be understood.

No input raises past `decode`: whoever can write a key must not be able to stop the reader.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from weldr.model.address import AddressError, parse_address
from weldr.model.balancing import invalid_balance
from weldr.model.certificates import Certificate, certificate_fault
from weldr.model.foreign import ForeignError, address_of_foreign
from weldr.model.health import invalid_check
from weldr.model.json_faults import json_fault
from weldr.model.keys import Kind
from weldr.model.resilience import invalid_resilience
from weldr.model.route_rules import RouteError, checked_route
from weldr.model.suggestions import with_suggestion
from weldr.model.values import (
    Backend,
    InstanceOverride,
    Override,
    Route,
    Service,
    Settings,
    StickyKey,
    Value,
    Weight,
)
from weldr.model.vips import Vip, vip_fault

MAX_VALUE_BYTES = 256 * 1024
"""Far above any honest value; etcd itself takes 1.5 MiB. Bounds the work that one key can cause."""


class Fault(msgspec.Struct, frozen=True):
    """Why a value cannot be understood: the place in it (a path such as `$.weight`) and one line."""

    place: str
    reason: str


T = TypeVar("T")


class BackendObject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backend's value as an object, as it is written."""

    url: str
    """Where it listens: `http://host:port`, or `host:port` alone."""
    weight: Weight = 1
    """Its share relative to the others of its service; 0 is the same as `drain`."""
    drain: bool = False
    """No new request goes there; those in flight finish."""
    zone: str = ""
    """Where it is. Instances that have the same zone may prefer it."""
    meta: Annotated[dict[str, str], msgspec.Meta(max_length=64)] = {}
    """Whatever its owner wants to tell people; weldr does nothing with it."""


class _RejectError(Exception):
    def __init__(self, place: str, reason: str) -> None:
        super().__init__(reason)
        self.fault = Fault(place, reason)


def decode(kind: Kind, raw: bytes) -> Value | Fault:
    """Decode a value of one of the `DECODED` kinds."""
    try:
        return DECODED[kind](_text(raw))
    except _RejectError as reject:
        return reject.fault
    except RecursionError:
        return Fault("$", "the JSON is nested too deeply")


def _text(raw: bytes) -> str:
    if len(raw) > MAX_VALUE_BYTES:
        raise _RejectError("$", f"the value has {len(raw)} bytes: at most {MAX_VALUE_BYTES} are taken")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _RejectError(f"byte {error.start}", "the value is not UTF-8") from None
    if not text.strip():
        raise _RejectError("$", "the value is empty")
    return text


def _backend(text: str) -> Backend:
    stripped = text.strip()
    if not stripped.startswith(("{", "[{", '"')):
        address, place = stripped, "$"
        typed = None
    else:
        value = _any_json(stripped)
        if not isinstance(value, dict):
            raise _RejectError("$", f"expected an address or an object, got {_type_name(value)}")
        try:
            foreign = address_of_foreign(value)
        except ForeignError as error:
            raise _RejectError(error.place, error.reason) from None
        if foreign is not None:
            found, weight = foreign
            return Backend(host=found.host, port=found.port, weight=1 if weight is None else weight)
        typed = _convert(value, BackendObject)
        address, place = typed.url, "$.url"
    try:
        parsed = parse_address(address)
    except AddressError as error:
        raise _RejectError(place, str(error)) from None
    if typed is None:
        return Backend(host=parsed.host, port=parsed.port)
    return Backend(
        host=parsed.host,
        port=parsed.port,
        weight=typed.weight,
        drain=typed.drain,
        zone=typed.zone,
        meta=typed.meta,
    )


def _override(text: str) -> Override:
    value = _json(text, Override)
    _check_zone(value.until)
    return value


def _instance_override(text: str) -> InstanceOverride:
    value = _json(text, InstanceOverride)
    _check_zone(value.until)
    return value


def _check_zone(until: datetime | None) -> None:
    if until is not None and until.tzinfo is None:
        raise _RejectError("$.until", "the time has no time zone: write it as 2030-01-31T12:00:00Z")


def _route(text: str) -> Route:
    try:
        return checked_route(_json(text, Route))
    except RouteError as error:
        raise _RejectError(error.place, error.reason) from None


def _service(text: str) -> Service:
    value = _json(text, Service)
    if value.health is not None and (invalid := invalid_check(value.health)) is not None:
        raise _RejectError(f"$.health.{invalid.field}", invalid.reason)
    if (invalid := invalid_balance(value.balance)) is not None:
        raise _RejectError(f"$.balance.{invalid.field}", invalid.reason)
    invalid = invalid_resilience(value.retries, value.adaptive_concurrency, value.deadline)
    if invalid is not None:
        raise _RejectError(f"$.{invalid.field}", invalid.reason)
    return value


def _settings(text: str) -> Settings:
    value = _json(text, Settings)
    for index, network in enumerate(value.trusted_proxies):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise _RejectError(f"$.trusted_proxies[{index}]", str(error)) from None
    return value


def _vip(text: str) -> Vip:
    value = _json(text, Vip)
    fault = vip_fault(value)
    if fault is not None:
        raise _RejectError(*fault)
    return value


def _sticky_key(text: str) -> StickyKey:
    return _secret_json(text, StickyKey, "the member `key`")


def _certificate(text: str) -> Certificate:
    value = _secret_json(text, Certificate, "the members `cert` and `key`")
    fault = certificate_fault(value)
    if fault is not None:
        raise _RejectError(*fault)
    return value


def _secret_json(text: str, into: type[T], members: str) -> T:
    try:
        return _json(text, into)
    except _RejectError as reject:
        if "unknown field" not in reject.fault.reason:
            raise
        # Whoever has mistaken the place of the secret must not read it in a log.
        raise _RejectError("$", f"expected an object with {members} and no other") from None


DECODED: dict[Kind, Callable[[str], Value]] = {
    Kind.BACKEND: _backend,
    Kind.OVERRIDE: _override,
    Kind.INSTANCE_OVERRIDE: _instance_override,
    Kind.SERVICE: _service,
    Kind.ROUTE: _route,
    Kind.SETTINGS: _settings,
    Kind.VIP: _vip,
    Kind.CERT: _certificate,
    Kind.STICKY_KEY: _sticky_key,
}
"""The kinds that the catalog reads, with the function that decodes each."""


def _json(text: str, into: type[T]) -> T:
    return _convert(_any_json(text), into)


def _any_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _RejectError(*json_fault(text, error)) from None


def _convert(value: Any, into: type[T]) -> T:
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `")
        place = place.rstrip("`") or "$"
        raise _RejectError(place, with_suggestion(reason, place, into)) from None


def _type_name(value: object) -> str:
    names = {
        str: "text",
        int: "a number",
        float: "a number",
        bool: "a boolean",
        list: "a list",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
