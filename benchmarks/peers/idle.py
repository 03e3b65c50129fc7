"""Connections that have had one answer and stay open, doing nothing."""

from __future__ import annotations

import http.client
import resource
import socket

from benchmarks.peers.exact import WrongAnswerError
from benchmarks.peers.works import WORKS

CONNECTIONS = 10_000
_OPENED_AT_ONCE = 200
_ASKED_AGAIN = 200
_OTHER_FILES = 1_000
_LIMIT_S = 30.0
_WORK = WORKS[0]


def allow_connections() -> None:
    """Raise the limit of open files, for this process and all that it starts."""
    needed = 2 * CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), max(hard, needed)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class IdleConnections:
    """They are opened, and asked on once each, when this is made."""

    def __init__(self, port: int) -> None:
        self._sockets: list[socket.socket] = []
        try:
            while len(self._sockets) < CONNECTIONS:
                group = [
                    socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S)
                    for _ in range(_OPENED_AT_ONCE)
                ]
                self._sockets += group
                _ask(group)
        except BaseException:
            self.close()
            raise

    def ask_again(self) -> None:
        """Ask on some of them, from the first to the last. Raises `WrongAnswerError`."""
        _ask(self._sockets[:: CONNECTIONS // _ASKED_AGAIN])

    def close(self) -> None:
        for connection in self._sockets:
            connection.close()

    def __enter__(self) -> IdleConnections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ask(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.sendall(_WORK.request())
    for connection in connections:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        if answer.status != 200 or answer.read() != _WORK.answer:
            raise WrongAnswerError(f"an idle connection: status {answer.status}")
