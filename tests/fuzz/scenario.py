"""What a fuzzed run consists of, as values whose `repr` can be pasted into `cases`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class _Named(IntEnum):
    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class Start(_Named):
    """When a backend begins to answer a request."""

    COMPLETE = 0
    HEAD = 1
    """When it has the head, be the body there or not."""


class Finish(_Named):
    """What a backend does after its answer."""

    KEEP = 0
    FIN = 1
    RST = 2


@dataclass(frozen=True)
class Answer:
    """What a backend answers to one request."""

    head: bytes
    """With the empty line, and with interim responses before it if there are any."""
    body: bytes = b""
    """As it is on the wire."""
    start: Start = Start.COMPLETE
    finish: Finish = Finish.KEEP
    honest: bool = True
    """Leaves out the body if the request is a HEAD."""
    cuts: bytes = b""
    """The sizes of the pieces in which it comes; the rest comes in one."""


@dataclass(frozen=True)
class Client:
    """What one client sends on its connection."""

    stream: bytes
    cuts: bytes = b""
    """As with an answer."""


@dataclass(frozen=True)
class Scenario:
    """The whole of a run."""

    clients: tuple[Client, ...]
    answers: tuple[Answer, ...] = ()
    """In the order in which the backends see requests; after the last, each is answered `200`."""
    steps: bytes = b""
    """What happens next, each byte a choice among what can happen."""
    connects: bytes = b""
    """For each connection to a backend whether it is made at once, later, not at all, or refused."""
    limit: int = 65536
    """How much a transport buffers before it pauses its protocol."""


def pieces(data: bytes, cuts: bytes) -> list[bytes]:
    """`data`, cut into pieces of these sizes (0 for none) and the rest."""
    found = []
    position = 0
    for size in cuts:
        if size and position + size < len(data):
            found.append(data[position : position + size])
            position += size
    if position < len(data):
        found.append(data[position:])
    return found
