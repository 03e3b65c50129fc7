"""Which worker process holds a client's connection: the kernel knows, so no header has to tell."""

from __future__ import annotations

import os
from pathlib import Path


def worker_of_client_ports(workers: list[int], listen_port: int) -> dict[int, int]:
    """For each established IPv4 connection to `listen_port`: the client's port and the worker's pid."""
    port_of_inode = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, state, inode = fields[1], fields[2], fields[3], fields[9]
        if int(local.partition(":")[2], 16) == listen_port and state == "01":
            port_of_inode[inode] = int(remote.partition(":")[2], 16)
    found = {}
    for pid in workers:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(entry.path)
            except OSError:
                continue
            inode = target.removeprefix("socket:[").removesuffix("]")
            if inode in port_of_inode:
                found[port_of_inode[inode]] = pid
    return found
