"""Which address of this machine others reach it by."""

from __future__ import annotations

import socket

from weldr.model.address import Address, AddressError, parse_address


def address_of(text: str, etcd_host: str, etcd_port: int) -> Address:
    """The address that `text` means: `host:port`, `http://host:port`, or a port (`8000`, `:8000`) alone.

    For a port alone, the host is the one that this machine reaches etcd from: the proxies are most likely on
    that side. Raises `AddressError`.
    """
    port_text = text.removeprefix(":")
    if not port_text.isascii() or not port_text.isdigit():
        return parse_address(text)
    host = _source_address(etcd_host, etcd_port)
    return parse_address(f"[{host}]:{port_text}" if ":" in host else f"{host}:{port_text}")


def _source_address(host: str, port: int) -> str:
    """Our address on the route to `host`. Connecting a UDP socket asks the routing table and sends nothing."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except socket.gaierror:
        raise AddressError(f"the host {host!r} has no address: name the backend's host, as host:port") from None
    for family, kind, protocol, _, where in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(where)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    raise AddressError(f"there is no route to {host!r}: name the backend's host, as host:port")
