"""By what this instance can announce a virtual IP: the kernel, programs, and where its workers listen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from weldr.control.announce.announcer import Announcer
from weldr.control.announce.command import CommandAnnouncer
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip.tidy import HostWatch
from weldr.model.vips import Vip


class Means:
    """Of one instance."""

    def __init__(self, host: HostWatch, commands: Path | None, listen: Sequence[str]) -> None:
        """`commands` is the directory of programs that values in etcd may name; `listen` are the addresses that
        workers accept on, `*` for all of IPv6 and of IPv4."""
        self._host = host
        self._commands = commands
        self._listen = listen

    def announcer(self, name: str, vip: Vip) -> Announcer:
        """What this virtual IP is announced by."""
        if vip.announce == "none":
            return NoAnnouncer()
        if vip.announce == "exec":
            return CommandAnnouncer(name, vip, lambda: self.program(vip.command or ""))
        return self._host.announcer(name, vip)

    def program(self, name: str) -> Path | str:
        """The program of that name, or why it cannot be run."""
        if self._commands is None:
            return f"the program {name} is not allowed: start weldr with --commands DIRECTORY"
        path = self._commands / name
        try:
            there = path.is_file() and os.access(path, os.X_OK)
        except OSError as error:  # such as a directory that this user may not look into
            return f"{path} cannot be run: {error.strerror or error}"
        return path if there else f"there is no program {path}"

    def deaf(self, vip: Vip) -> str | None:
        """Why nobody would be heard at the address, if that can be told from where workers listen."""
        if vip.announce != "netlink" or any(_reaches(listen, vip) for listen in self._listen):
            return None
        return f"nothing here listens on {vip.ip}: weldr was started with --listen {', '.join(self._listen)}"


def _reaches(listen: str, vip: Vip) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    every = {4: ("*", "0.0.0.0"), 6: ("*", "::")}
    return host == vip.ip or host in every[vip.interface_address.version]
