"""Which address of this host other instances reach it by."""

from __future__ import annotations

import socket
from collections.abc import Iterable


def own_address(towards: Iterable[tuple[str, int]]) -> str:
    """The address that this host has in the eyes of those: a UDP socket that connects sends nothing.

    Raises `OSError`.
    """
    failure = OSError("neither a virtual IP nor etcd has an address")
    local = ""
    for host, port in towards:
        try:
            for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM):
                with socket.socket(family, kind) as probe:
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
