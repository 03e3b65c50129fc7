"""The channel between the manager and a worker: typed frames over a stream.

A frame is its length in four bytes (big endian) and a MessagePack value with its type in it. Both ends are of
the same weldr version, since the manager starts the workers.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from weldr.model.health import BackendKey, Standing
from weldr.model.incidents import Incidents
from weldr.model.tally import Tally
from weldr.model.traffic import TrafficDelta

MAX_FRAME_BYTES = 256 * 1024 * 1024
"""Above a catalog of a million backends. More than this is a broken peer, not a big one."""


class Update(msgspec.Struct, frozen=True, tag="update"):
    """Down: the difference from what this worker was sent before, to be in force at one instant.

    `revision` is the etcd revision that the worker then serves.
    """

    revision: int
    delta: TrafficDelta


class Health(msgspec.Struct, frozen=True, tag="health"):
    """Down: what has changed in the standing of backends, some of which the worker may not serve yet or any
    more.

    Apart from updates, since it belongs to no revision. A backend of which nothing was said is up.
    """

    standings: list[tuple[BackendKey, Standing]]


class Standby(msgspec.Struct, frozen=True, tag="standby"):
    """Down, before all else: do not accept before `Accept`. Another worker still serves these sockets."""


class Accept(msgspec.Struct, frozen=True, tag="accept"):
    """Down: the end of standby."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Down: stop accepting, finish what is in flight within `grace_s`, then exit."""

    grace_s: float
    handed_on: list[int] = []
    """Positions of the listening sockets that others go on with: what is queued there is for them."""
    patient: bool = False
    """Whether idle clients may stay for their next request, which is their last one, as long as they might
    without a drain. Else they get one second."""


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """Up: the update with this revision is in force.

    `in_flight` counts requests by (service, id) for every backend that gets no new ones (draining or gone) and
    is not idle yet.
    """

    revision: int
    in_flight: list[tuple[str, str, int]]


class InFlight(msgspec.Struct, frozen=True, tag="in_flight"):
    """Up: the same list again, since a backend that gets no new requests has become idle."""

    in_flight: list[tuple[str, str, int]]


class Spared(msgspec.Struct, frozen=True):
    """A backend that a worker keeps from requests: `asked` for by itself, or because of its failures."""

    key: BackendKey
    reason: str
    for_s: float
    asked: bool


class Sparing(msgspec.Struct, frozen=True, tag="sparing"):
    """Up: all backends that this worker spares now, the services that are so short of healthy ones that all
    of theirs are used, and those whose circuit breaker is not closed. Sent when that has changed.
    """

    spared: list[Spared]
    panicking: list[str]
    open_circuits: list[str] = []


class Silent(msgspec.Struct, frozen=True, tag="silent"):
    """Up, every second while there are any: backends that were sent more and more requests and answered
    none."""

    backends: list[BackendKey]


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """Up, every second: the worker's event loop is alive, its counters since it started, and what is open."""

    connections: int
    requests: int
    in_flight: int
    faults: int = 0
    """Errors that nobody expected."""
    clients: int = 0
    """Connections of clients that are open, tunnels among them."""
    tunnels: int = 0
    backends_used: int = 0
    """Requests that are with a backend, or whose connection to one is being made."""
    backends_kept: int = 0
    """Idle connections to backends."""
    lag_s: float = 0.0
    """How late the event loop was at most since the last beat."""
    spans_exported: int = 0
    spans_lost: int = 0
    """That were too many, or that nobody took."""
    descriptors: int = 0
    """That the process has open; 0 if the system does not tell."""


class Loads(msgspec.Struct, frozen=True, tag="loads"):
    """Up, every second while there are any, and once when there are none any more: requests in flight by
    service and backend, those that get no new ones included.
    """

    backends: list[tuple[str, str, int]]


class Tallies(msgspec.Struct, frozen=True, tag="tallies"):
    """Up, every second: what has been counted since the last one. None is sent twice."""

    tallies: list[Tally]
    access_lines_dropped: int = 0
    routes: list[str] = []
    """Their names by their numbers in the tallies, from 1 on."""
    incidents: list[Incidents] = []


Downward = Update | Health | Standby | Accept | Drain
Upward = Applied | InFlight | Sparing | Silent | Beat | Loads | Tallies

FrameType = TypeVar("FrameType")

_LENGTH_BYTES = 4


class FrameError(Exception):
    """The peer sent what is no frame."""


def encode_frame(frame: msgspec.Struct) -> bytes:
    """The frame with its length."""
    body = msgspec.msgpack.encode(frame)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader(Generic[FrameType]):
    """Turns chunks of a stream into frames of one direction."""

    def __init__(self, frame_type: object) -> None:
        self._decoder = msgspec.msgpack.Decoder(frame_type)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[FrameType]:
        """The frames that `data` completes.

        Raises `FrameError`.
        """
        self._buffer += data
        frames: list[FrameType] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[start : start + _LENGTH_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_FRAME_BYTES}")
            end = start + _LENGTH_BYTES + length
            if len(self._buffer) < end:
                break
            try:
                frames.append(self._decoder.decode(memoryview(self._buffer)[start + _LENGTH_BYTES : end]))
            except msgspec.MsgspecError as error:
                raise FrameError(f"a frame cannot be decoded: {error}") from None
            start = end
        if start:
            del self._buffer[:start]
        return frames
