"""Sets of networks, and the addresses in them. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache


class NetworkSet:
    """Answers by one look into a set for each length of prefix, however many networks there are."""

    __slots__ = ("_by_version",)

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises `ValueError` for text that is no network."""
        by_version: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in networks:
            network = _as_ipv4(ipaddress.ip_network(text))
            shift = network.max_prefixlen - network.prefixlen
            shifted = int(network.network_address) >> shift
            by_version[network.version].setdefault(shift, set()).add(shifted)
        self._by_version = {
            version: [(shift, frozenset(found)) for shift, found in lengths.items()]
            for version, lengths in by_version.items()
        }

    def __contains__(self, address: str) -> bool:
        version, number = parsed_address(address)
        if not version:
            return False
        return any(number >> shift in networks for shift, networks in self._by_version[version])


def _as_ipv4(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network of IPv4 addresses in IPv6 ones, as the former: so its addresses are looked up."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.IPv4Network((int(mapped), network.prefixlen - _MAPPED_BITS))


_MAPPED_BITS = 96
"""Of an IPv6 address, before the IPv4 address in it."""


@lru_cache(maxsize=4096)
def parsed_address(address: str) -> tuple[int, int]:
    """Version and number; version 0 for what is no address. An IPv4 address in an IPv6 one is the former."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return 0, 0
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.version, int(parsed)
