"""This machine: limits, capabilities, ports, and what the kernel is set to."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from weldr.cli.diagnosis.finding import Finding, Level
from weldr.control.listeners import ListenAddress
from weldr.control.vip.identity import has_machine_id

_AREA = "machine"
_FEW_DESCRIPTORS = 20_000
_LEAST = {
    "net/core/somaxconn": (4096, "connections wait here to be accepted; more are dropped"),
    "net/ipv4/tcp_max_syn_backlog": (1024, "handshakes that are under way; more are dropped"),
}
_FEW_PORTS = 20_000
_CAPABILITIES = {"NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13}


def read_sysctl(name: str) -> str | None:
    """A kernel setting by its path below /proc/sys; `None` where there is none to be read."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys", name).read_text().strip()
    return None


def judge_machine(*, has_virtual_ips: bool, addresses: Sequence[ListenAddress]) -> list[Finding]:
    """What there is to say of it; `addresses` are those that an instance is to listen on."""
    findings = [*_descriptors(), *judge_sysctls(read_sysctl)]
    for address in addresses:
        findings.append(_port(address))
    findings += judge_capabilities(_capabilities(), has_virtual_ips=has_virtual_ips)
    findings += judge_identity(has_machine_id=has_machine_id(), has_virtual_ips=has_virtual_ips)
    if not any(finding.level is not Level.OK for finding in findings):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        findings.append(Finding(Level.OK, _AREA, f"{cores} cores: as many workers by default"))
    return findings


def _descriptors() -> list[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEW_DESCRIPTORS and os.geteuid() != 0:
        text = f"a process may open {hard} files, and so take less than {hard // 2} requests at a time"
        return [Finding(Level.WARNING, _AREA, text, "LimitNOFILE=1048576 in the unit, or ulimit -Hn")]
    shown = "any number of" if hard == resource.RLIM_INFINITY else str(hard)
    return [Finding(Level.OK, _AREA, f"a process may open {shown} files")]


def judge_sysctls(read: Callable[[str], str | None]) -> list[Finding]:
    """What the kernel's settings say; `read` gives one by its path. Pure but for that."""
    findings = []
    for name, (least, why) in _LEAST.items():
        value = read(name)
        if value is not None and value.isdigit() and int(value) < least:
            dotted = name.replace("/", ".")
            text = f"{dotted} is {value}: {why}"
            findings.append(Finding(Level.WARNING, _AREA, text, f"sysctl -w {dotted}={least}"))
    ports = (read("net/ipv4/ip_local_port_range") or "").split()
    if len(ports) == 2 and int(ports[1]) - int(ports[0]) < _FEW_PORTS:
        text = f"only ports {ports[0]} to {ports[1]} are for connections to a backend"
        do = 'sysctl -w net.ipv4.ip_local_port_range="10240 65535"'
        findings.append(Finding(Level.WARNING, _AREA, text, do))
    count, most = read("net/netfilter/nf_conntrack_count"), read("net/netfilter/nf_conntrack_max")
    if count and most and int(count) > int(most) * 0.8:
        text = f"the firewall follows {count} connections of at most {most}: soon it drops new ones"
        do = f"sysctl -w net.netfilter.nf_conntrack_max={int(most) * 4}, or do not track weldr's ports"
        findings.append(Finding(Level.ERROR, _AREA, text, do))
    return findings or [Finding(Level.OK, _AREA, "the kernel's settings that matter are good")]


def _port(address: ListenAddress) -> Finding:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            # Without this the port of a listener that shares it would look free.
            probe.listen(1)
        except OSError as error:
            return _taken(address, error)
    return Finding(Level.OK, "ports", f"{address} is free")


def _taken(address: ListenAddress, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        owner = _owner(address.port)
        if owner and "weldr" in owner:
            return Finding(Level.OK, "ports", f"{address} belongs to weldr ({owner})")
        text = f"{address} is taken by {owner or 'another program'}"
        return Finding(Level.WARNING, "ports", text, "stop that, or choose another with --listen or --admin")
    if error.errno in (errno.EACCES, errno.EPERM):
        text = f"{address} may not be listened on by this user"
        do = "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port from 1024 on"
        return Finding(Level.ERROR, "ports", text, do)
    do = "ip addr shows the addresses of this machine"
    return Finding(Level.ERROR, "ports", f"{address} cannot be listened on: {error.strerror}", do)


def _owner(port: int) -> str | None:
    """The process that listens on a port, as its number and command; `None` where that may not be seen."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        command = (process / "cmdline").read_bytes().split(b"\0")
                        shown = b" ".join(command[:4]).decode("utf-8", "backslashreplace")
                        return f"{process.name}: {shown[:80]}"
    return None


def _capabilities() -> set[str] | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                held = int(line.split()[1], 16)
                return {name for name, bit in _CAPABILITIES.items() if held >> bit & 1}
    return None


def judge_identity(*, has_machine_id: bool, has_virtual_ips: bool) -> list[Finding]:
    """Whether other instances know this one after its machine was started anew. Pure."""
    if not has_virtual_ips or has_machine_id:
        return []
    text = (
        "there is no machine-id: after a power cut of all machines nobody takes up a virtual IP that was held"
    )
    do = "systemd-machine-id-setup; for a container --volume /etc/machine-id:/etc/machine-id:ro"
    return [Finding(Level.WARNING, _AREA, text, do)]


def judge_capabilities(held: set[str] | None, *, has_virtual_ips: bool) -> list[Finding]:
    """Whether this user has what virtual IPs need. Pure."""
    if not has_virtual_ips:
        return []
    if held is None:
        return [Finding(Level.UNKNOWN, _AREA, "capabilities can be seen on Linux only")]
    missing = [name for name in ("NET_ADMIN", "NET_RAW") if name not in held]
    if missing:
        names = " ".join(f"CAP_{name}" for name in missing)
        text = f"this user lacks {names}, and so can hold no virtual IP"
        do = f"AmbientCapabilities={names} in the unit; or run the doctor as weldr's user"
        return [Finding(Level.WARNING, _AREA, text, do)]
    return [Finding(Level.OK, _AREA, "it has the capabilities for virtual IPs")]
