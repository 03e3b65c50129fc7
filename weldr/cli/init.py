"""What process 1 of a container has to do: reap orphans, pass signals on, and end when the work has ended.

The command itself runs as a child. When a manager is upgraded, the container must not end with the old one: so
its word on who is the main process is listened to, as systemd would, by the datagrams of sd_notify(3), and
nobody else's: whoever shares the network namespace, or is a worker, can send such.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
_TO_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
_CREDENTIALS = struct.Struct("3i")
"""A sender's process, user and group, by the kernel's word."""
_MAIN_PID = re.compile(r"^MAINPID=(\d{1,9})$", re.MULTILINE)


def run_as_init() -> int:
    """Run this very command as a child until it, or the last main process that it named, has ended; the exit
    status of that."""
    return _Init().run()


class _Init:
    def __init__(self) -> None:
        self._outer = os.environ.get("NOTIFY_SOCKET", "")
        self._words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._words.setblocking(False)
        self._words.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._words.bind("")  # any free abstract name
        name = self._words.getsockname()
        environment = os.environ | {"NOTIFY_SOCKET": "@" + name[1:].decode()}
        environment.pop("WATCHDOG_PID", None)
        signals = {*_PASSED_ON, signal.SIGCHLD, signal.SIGIO}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        self._signals = signals
        child = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]],
            env=environment,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals),
        )
        self._main = child.pid
        self._managers = {child.pid}
        self._status = 1

    def run(self) -> int:
        while self._managers:
            received = signal.sigtimedwait(self._signals, 0.5)
            self._listen()
            if received is not None and received.si_signo in _PASSED_ON:
                self._pass_on(received.si_signo)
            self._reap()
        return self._status

    def _pass_on(self, number: int) -> None:
        # Those that have been replaced finish what they have, too.
        targets = self._managers if number in _TO_ALL else {self._main}
        for pid in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _listen(self) -> None:
        """Take in who is the main process, and tell the container's supervisor the rest."""
        while True:
            try:
                data, ancillary, _, _ = self._words.recvmsg(8192, socket.CMSG_SPACE(_CREDENTIALS.size))
            except OSError:
                return
            if _sender(ancillary) not in self._managers:
                continue
            text = data.decode("utf-8", "replace")
            if found := _MAIN_PID.search(text):
                self._main = int(found[1])
                self._managers.add(self._main)
            rest = _MAIN_PID.sub("", text).strip()
            if self._outer.startswith(("/", "@")) and rest:
                address = "\0" + self._outer[1:] if self._outer.startswith("@") else self._outer
                with contextlib.suppress(OSError):
                    self._words.sendto(rest.encode(), address)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._managers.clear()
                return
            if pid == 0:
                return
            # A manager names its successor before it ends.
            self._listen()
            self._managers.discard(pid)
            if pid == self._main:
                code = os.waitstatus_to_exitcode(status)
                self._status = code if code >= 0 else 128 - code


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The process that sent a datagram; 0 for one of another process namespace."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return int(_CREDENTIALS.unpack(data)[0])
    return 0
