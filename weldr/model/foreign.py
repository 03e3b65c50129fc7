"""Shapes in which other programs already register servers in etcd, read as backends.

go-zero and registrator write plain `host:port`, which `decode` takes anyway. Here are the JSON objects: kratos
(`endpoints`), etcd's own gRPC naming (`Addr`), SkyDNS (`host` and `port`), vulcand (`URL`). Their other fields
belong to those programs and are ignored.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from weldr.model.address import Address, AddressError, parse_address


class ForeignError(ValueError):
    """An object of a known foreign shape that cannot be used; `place` says where."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


def address_of_foreign(value: dict[str, Any]) -> tuple[Address, int | None] | None:
    """The address and, if the shape has one, the weight; `None` if the object is of no foreign shape.

    Raises `ForeignError`.
    """
    if "url" in value:
        return None
    if "endpoints" in value:
        return _kratos(value["endpoints"]), None
    if "Addr" in value:
        return _address(value["Addr"], "$.Addr"), None
    if "URL" in value:
        return _address(value["URL"], "$.URL"), None
    if "host" in value and "port" in value:
        return _skydns(value)
    return None


def _address(text: object, place: str) -> Address:
    if not isinstance(text, str):
        raise ForeignError(place, f"expected an address as text, got {type(text).__name__}")
    try:
        return parse_address(text)
    except AddressError as error:
        raise ForeignError(place, str(error)) from None


def _kratos(endpoints: object) -> Address:
    """The first plain HTTP endpoint: kratos lists one for each protocol, as `http://host:port?isSecure=false`."""
    if not isinstance(endpoints, list):
        raise ForeignError("$.endpoints", f"expected a list, got {type(endpoints).__name__}")
    for index, endpoint in enumerate(endpoints):
        place = f"$.endpoints[{index}]"
        if not isinstance(endpoint, str):
            raise ForeignError(place, f"expected an address as text, got {type(endpoint).__name__}")
        try:
            parts = urlsplit(endpoint)
        except ValueError:
            # Not echoed: it may hold a password.
            raise ForeignError(place, "the address is malformed") from None
        if parts.scheme == "http" and "isSecure=true" not in parts.query:
            return _address(f"http://{parts.netloc}", place)
    raise ForeignError("$.endpoints", "none of the endpoints is plain http://")


def _skydns(value: dict[str, Any]) -> tuple[Address, int | None]:
    host, port, weight = value["host"], value["port"], value.get("weight")
    if not isinstance(host, str):
        raise ForeignError("$.host", f"expected text, got {type(host).__name__}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise ForeignError("$.port", f"expected a number, got {type(port).__name__}")
    if weight is not None and (
        not isinstance(weight, int) or isinstance(weight, bool) or not 0 <= weight <= 10**6
    ):
        raise ForeignError("$.weight", "expected a number from 0 to 1000000")
    return _address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", "$.host"), weight
