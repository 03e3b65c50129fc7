"""What the manager keeps of its privileges, and whom its workers become.

| started as | the manager keeps | the workers |
| --- | --- | --- |
| root | what starting workers takes, and those below | become `--worker-user` (`weldr` or `nobody`) |
| another user | those below that it was given | stay that user |

Workers have no capability and never get one. CAP_NET_ADMIN and CAP_NET_RAW are for virtual IPs,
CAP_NET_BIND_SERVICE for ports below 1024. Whether there will be a virtual IP is not known at the start, so only
`--no-vip` gives up the first two.
"""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import weldr
from weldr.control.listeners import ListenAddress
from weldr.privileges import Capability, PrivilegeError, User, can_read, find_user, keep_only

logger = logging.getLogger(__name__)

_DEFAULT_USERS = ("weldr", "nobody")
_UNPRIVILEGED_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True)
class Rights:
    """What was decided, and done."""

    worker: User | None
    """Whom workers become; `None`: they stay who they are."""
    kept: Mapping[Capability, str]
    """What the manager keeps, and what for."""
    note: str = ""
    """Why workers do not become another user although they should."""

    def tell(self) -> None:
        """Say it in the log."""
        logger.info(
            "privileges",
            extra={
                "manager": os.geteuid(),
                "keeps": [f"CAP_{capability.name} for {why}" for capability, why in self.kept.items()],
                "workers": self.worker.name if self.worker else os.geteuid(),
            },
        )
        if self.note:
            logger.warning("workers stay root, without capabilities", extra={"reason": self.note})


def settle(
    worker: str | None, listen: Iterable[ListenAddress], *, vips: bool, reads_files: bool, embedded: bool
) -> Rights:
    """Find the workers' user, and give up what no feature needs. To be called before there are threads.

    Raises `PrivilegeError`.
    """
    user, note = _worker_user(worker)
    needed: dict[Capability, str] = {}
    if vips:
        needed |= dict.fromkeys((Capability.NET_ADMIN, Capability.NET_RAW), "virtual IPs")
    if any(0 < address.port < _first_free_port() for address in listen):
        needed[Capability.NET_BIND_SERVICE] = "low ports"
    if reads_files:
        needed[Capability.DAC_READ_SEARCH] = "keys and tokens in files"
    if embedded:
        needed[Capability.DAC_OVERRIDE] = "the embedded etcd's data"
    if user is not None:
        others = (Capability.SETUID, Capability.SETGID, Capability.SETPCAP, Capability.KILL)
        needed |= dict.fromkeys(others, "workers of another user")
    elif os.geteuid() == 0:
        needed[Capability.SETPCAP] = "workers without capabilities"
    kept = keep_only(needed)
    return Rights(user, {capability: why for capability, why in needed.items() if capability in kept}, note)


def _worker_user(name: str | None) -> tuple[User | None, str]:
    if os.geteuid() != 0:
        if name is not None and find_user(name).uid != os.geteuid():
            raise PrivilegeError(f"only root can start workers as {name}: leave out --worker-user")
        return None, ""
    user = find_user(name) if name is not None else _default_user()
    if user is None or user.uid == 0:
        return None, ""
    hidden = can_read(user, _program())
    if hidden is None:
        return user, ""
    reason = f"the user {user.name} cannot read {hidden}"
    advice = "install weldr where it can, or choose another with --worker-user"
    if name is not None:
        raise PrivilegeError(f"{reason}: {advice}")
    return None, f"{reason}: {advice}"


def _default_user() -> User | None:
    for name in _DEFAULT_USERS:
        try:
            return find_user(name)
        except PrivilegeError:
            continue
    return None


def _program() -> list[Path]:
    """What a worker reads after it has become another user."""
    paths = [Path(weldr.__file__).parent, Path(sys.executable)]
    return [*paths, *(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib", "stdlib"))]


def _first_free_port() -> int:
    try:
        return int(_UNPRIVILEGED_PORTS.read_text())
    except (OSError, ValueError):
        return 1024
