"""What `weldr run` was told. All else comes from etcd."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from weldr.control.admin.guard import Access
from weldr.control.listeners import ListenAddress
from weldr.control.rights import Rights
from weldr.etcd.config import EtcdConfig
from weldr.model.keys import KeySpace


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """See the module."""

    etcd: EtcdConfig | None
    """`None` starts an embedded one."""
    embedded_data: Path | None
    keys: KeySpace
    listen: list[ListenAddress]
    admin: ListenAddress
    access: Access
    workers: int
    instance: str | None
    zone: str
    """Where it is; empty if that is not known."""
    grace_s: float
    rights: Rights
    log_format: str
    log_level: str
    debug_networks: tuple[str, ...] = ()
    """Whose clients are told the way of their requests."""
    otlp_url: str = ""
    """Where spans go; empty for nowhere."""
    commands: Path | None = None
    """The directory of programs that virtual IPs may name."""
    listen_was_asked: bool = True
    """Whether `listen` was asked for, or is the default, which gives way to sockets of a service manager."""
    admin_was_asked: bool = True
    vips: bool = True
    """Whether virtual IPs may be held here."""
    shutdown_delay_s: float = 0.0
    """How long it accepts after it was told to stop and has said that it is not ready any more."""
    drain_limit_s: float = 600.0
    """How long connections may stay after an upgrade."""


def default_workers() -> int:
    """One for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
