"""What a process may do beyond what any other may: users, capabilities, no new privileges (Linux).

The system calls are made by way of the C library: no package in good repair offers them, and they are few.
Elsewhere than on Linux there is nothing to drop but the user.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _AMBIENT_LOWER, _AMBIENT_CLEAR_ALL = 47, 3, 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")


class Capability(IntEnum):
    """Those that weldr has a use for, by the kernel's numbers."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13


class PrivilegeError(Exception):
    """A privilege cannot be given up, or a user cannot be had; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom a process can become."""

    name: str
    uid: int
    gid: int


def find_user(name: str) -> User:
    """By name or number.

    Raises `PrivilegeError`.
    """
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        raise PrivilegeError(f"there is no user {name}: make it, or name another with --worker-user") from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_read(user: User, paths: Collection[Path]) -> Path | None:
    """The first of these that the user cannot get at, judged by the permission bits on the way to it."""
    for path in paths:
        resolved = path.resolve()
        for part in (*reversed(resolved.parents), resolved):
            try:
                found = part.stat()
            except OSError:
                return path
            shift = 6 if found.st_uid == user.uid else 3 if found.st_gid == user.gid else 0
            needed = 0o5 if part == resolved and part.is_dir() else 0o1 if part.is_dir() else 0o4
            if (found.st_mode >> shift) & needed != needed:
                return path
    return None


def effective() -> frozenset[int]:
    """The capabilities of this process that are in force."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("CapEff:"):
                bits = int(line.split()[1], 16)
                return frozenset(number for number in range(bits.bit_length()) if bits >> number & 1)
    return frozenset()


def keep_only(capabilities: Collection[int]) -> frozenset[int]:
    """Give up all but these, for this thread and those that it starts; what is kept.

    What programs get that this one starts is unchanged for root: a new version of weldr has to be able to do
    what a fresh one can.

    Raises `PrivilegeError`.
    """
    if sys.platform != "linux":
        return frozenset()
    kept = effective() & frozenset(capabilities)
    for number in effective() - kept:
        # Before 4.3 there are none.
        with contextlib.suppress(OSError):
            _prctl(_PR_CAP_AMBIENT, _AMBIENT_LOWER, number)
    bits = sum(1 << number for number in kept)
    inheritable = 0 if os.geteuid() == 0 else bits
    _capset(bits, inheritable)
    return kept


def drop_all(user: User | None) -> None:
    """Become `user`, if one is given, and give up every privilege for good.

    To be called while the process has one thread only.

    Raises `PrivilegeError`.
    """
    try:
        if sys.platform == "linux":
            _prctl(_PR_SET_NO_NEW_PRIVS, 1)
            if Capability.SETPCAP in effective():
                for number in range(_last_capability() + 1):
                    _prctl(_PR_CAPBSET_DROP, number)
            with contextlib.suppress(OSError):
                _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
        if user is not None:
            os.setgroups([])
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        if sys.platform == "linux":
            _capset(0, 0)
    except OSError as error:
        raise PrivilegeError(f"privileges cannot be given up: {error.strerror or error}") from None


def _last_capability() -> int:
    try:
        return int(_LAST_CAPABILITY.read_text())
    except (OSError, ValueError):
        return 40


def _prctl(option: int, argument: int, second: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(value) for value in (argument, second, 0, 0)]
    if libc.prctl(option, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _capset(effective_bits: int, inheritable_bits: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    data = b""
    for shift in (0, 32):
        low, inherited = effective_bits >> shift & 0xFFFFFFFF, inheritable_bits >> shift & 0xFFFFFFFF
        data += struct.pack("=III", low, low, inherited)
    if libc.capset(header, ctypes.create_string_buffer(data)) != 0:
        number = ctypes.get_errno()
        raise PrivilegeError(f"capabilities cannot be given up: {os.strerror(number)}")
