"""Which address of this host other instances reach it by."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any


async def own_address(towards: Iterable[tuple[str, int]]) -> str:
    """The address that this host has in the eyes of those: a UDP socket that connects sends nothing.

    Raises `OSError`.
    """
    failure = OSError("neither a virtual IP nor etcd has an address")
    local = ""
    for host, port in towards:
        try:
            for family, address in await _resolved(host, port):
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect(address)
                    own = str(probe.getsockname()[0])
                if own != address[0]:
                    return own
                # What we reach by its own address is on this host. Good enough if everything is.
                local = own
        except OSError as error:
            failure = error
    if local:
        return local
    raise failure


async def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    kind = socket.SOCK_DGRAM
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        # A name: those who are asked for it may take many seconds, while everything else has to go on.
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    return [(family, address) for family, _, _, _, address in found]
