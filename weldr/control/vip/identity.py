"""What tells one host from another, and one machine from another that was given its name.

| | tells | outlives |
| --- | --- | --- |
| `host` | the network namespace of one running kernel: an address cannot be there twice | a restart of weldr |
| `machine` | the installation, by its `machine-id` (machine-id(5)) | a restart of the machine, too |

Where there is no `machine-id`, as in most containers, the boot id of the kernel stands for it: such a machine
is another one once it was started anew.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MACHINE = Path("/etc/machine-id")
_NAMESPACE = Path("/proc/self/ns/net")


def this_host() -> str:
    """The same for two instances in one network namespace, never for two others."""
    boot = _digest(_read(_BOOT))
    try:
        return f"{boot}/{os.stat(_NAMESPACE).st_ino}" if boot else socket.gethostname()
    except OSError:
        return socket.gethostname()


def this_machine() -> str:
    """The same before and after a restart, never for two installations, unless one is a copy of the other."""
    # machine-id(5) asks not to show the id itself to a network; before the first boot, the file may say
    # `uninitialized`.
    if has_machine_id():
        return _digest(f"weldr {_read(_MACHINE)}")
    return _digest(_read(_BOOT)) or socket.gethostname()


def has_machine_id() -> bool:
    """Whether this machine is known as the same after it was started anew."""
    return len(_read(_MACHINE)) == 32


def started_anew(host: str, since: str) -> bool:
    """Of one machine: whether its kernel has been started between the first and the second."""
    boot, later = host.rpartition("/")[0], since.rpartition("/")[0]
    return bool(boot and later) and boot != later


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
