"""What a service manager (systemd, or what speaks its protocol) gives and wants to be told: sd_notify(3),
sd_listen_fds(3), sd_watchdog_enabled(3).

A datagram for each word, and a few environment variables: a library would be larger than this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator

from weldr.control.listeners import Group, ListenAddress, Listener

logger = logging.getLogger(__name__)

_FIRST_DESCRIPTOR = 3
_MOST_DESCRIPTORS = 1024
_BUSY_LIMIT_S = 5.0
_BUSY_PAUSE_S = 0.05
ADMIN_NAME = "admin"


def notify(**words: object) -> bool:
    """Tell the service manager, if there is one; nothing fails by it. Whether it has been told all it wants.

    `notify(READY=1, STATUS="serves")`.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return True
    address = "\0" + path[1:] if path.startswith("@") else path
    text = "\n".join(f"{name}={' '.join(str(value).splitlines())}" for name, value in words.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), address)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.warning("the service manager cannot be told", extra={"reason": error.strerror or str(error)})
    return True


async def notify_surely(**words: object) -> None:
    """The same for what must not get lost, should the service manager be busy; for a few seconds at most."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BUSY_LIMIT_S):
            await notify_when_possible(**words)


async def notify_when_possible(**words: object) -> None:
    """The same, however long that takes."""
    while True:
        if notify(**words):
            return
        await asyncio.sleep(_BUSY_PAUSE_S)


def notify_reloading() -> None:
    """An upgrade begins: systemd wants to know when, by its clock."""
    notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000, STATUS="upgrading")


def watchdog_interval_s() -> float | None:
    """How often the service manager wants a sign of life, if it does so from this process."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    # Half of the limit, as its manual recommends.
    return int(text) / 2_000_000


async def keep_alive() -> None:
    """Give that sign, for good. It comes from the event loop: while that is stuck there is none."""
    interval_s = watchdog_interval_s()
    if interval_s is None:
        return
    while True:
        notify(WATCHDOG=1)
        await asyncio.sleep(interval_s)


def activated(name: str | None) -> Iterator[Group]:
    """The listening TCP sockets that the service manager has opened for us: those called `name`, or, with
    `None`, all others but the admin port's."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdigit() or int(count) > _MOST_DESCRIPTORS:
        return
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    for offset in range(int(count)):
        if (names[offset] == ADMIN_NAME) != (name == ADMIN_NAME):
            continue
        sock = _listening(_FIRST_DESCRIPTOR + offset)
        if sock is None:
            logger.warning("a socket of the service manager is no listening TCP socket: it is not used")
            continue
        host, port = sock.getsockname()[:2]
        address = str(ListenAddress(host, port))
        yield Group(address, address, [Listener(sock, shared=True)], activated=True)


def _listening(number: int) -> socket.socket | None:
    """The socket, if it is what it should be. Looked at by a copy: it may be anything, and somebody's."""
    with contextlib.suppress(OSError):
        sock = socket.socket(fileno=os.dup(number))
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            os.close(number)
            return sock
        sock.close()
    return None
