"""A backend's address: `host:port` or `http://host[:port]`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?\Z")
_HTTP_PORT = 80
_MAX_ADDRESS_CHARACTERS = 300


class AddressError(ValueError):
    """Not an address of a backend. Its text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens. `host` is a name or an IP address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `host:port`, `[v6]:port` or `http://host[:port]`.

    Raises `AddressError`; anything but an address in it (path, query, user) is refused and not dropped,
    since whoever wrote it expects it to have an effect.
    """
    if not text:
        raise AddressError("the address is empty: expected host:port or http://host:port")
    if "@" in text:
        # Not echoed, here or anywhere below: it may hold a password.
        raise AddressError("the address has credentials: remove everything up to the @")
    if len(text) > _MAX_ADDRESS_CHARACTERS:
        raise AddressError(f"the address has {len(text)} characters: expected host:port or http://host:port")
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise AddressError(f"the address {text!r} holds a space, a control or a non-ASCII character")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme.lower() != "http":
        raise AddressError(f"the scheme {scheme!r} is not supported: use http")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise AddressError(f"the address {text!r} is malformed: {error}") from None
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in rest or "#" in rest:
        raise AddressError(f"the address {text!r} has a path or query: expected only host and port")
    if port is None and not scheme:
        raise AddressError(f"the address {text!r} has no port: expected host:port")
    return Address(_host(host, text), _port(port, text))


def _host(host: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not _HOST_NAME.match(host) or re.fullmatch(r"[0-9.]+", host):
        raise AddressError(f"the address {text!r} has no valid host: expected a name or an IP address")
    return host.lower()


def _port(port: int | None, text: str) -> int:
    if port is None:
        return _HTTP_PORT
    if port == 0:
        raise AddressError(f"the address {text!r} has port 0: expected 1 to 65535")
    return port
