"""What an instance counted in one slot of time, and how it reaches the instance that is looked at. Pure.

A connection begins with a nonce from the one that listens. Then come frames: their length in four bytes (big
endian), an HMAC-SHA256 over nonce, number of the frame and body, and the body in MessagePack. The key is in the
listener's `viewers/<instance>`, made anew each time: who can read etcd's keys can speak, and nobody else;
nothing that was recorded can be said again.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from weldr.model.latency import quantile_s

SLOT_S = 2.0
KEPT_SLOTS = 60
NONCE_BYTES = 16
KEY_BYTES = 32
DIGEST_BYTES = hashlib.sha256().digest_size
LENGTH_BYTES = 4
MOST_FRAME_BYTES = 1024 * 1024
MOST_SERVICES = 1000
"""In one slot: those that were asked for first."""
MOST_BACKENDS = 5000


class Counts(msgspec.Struct, array_like=True):
    """Requests that ended, those of them with a status of 5xx, and how many took how long, by the buckets of
    `weldr.model.latency`.
    """

    requests: int = 0
    errors: int = 0
    latency: dict[int, int] = {}

    def add(self, other: Counts) -> None:
        """Count what `other` counted, too."""
        self.requests += other.requests
        self.errors += other.errors
        for bucket, requests in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + requests

    def quantile_s(self, share: float) -> float | None:
        """See `weldr.model.latency`."""
        return quantile_s(self.latency, share)


class BackendLoad(msgspec.Struct, array_like=True):
    """A backend's part, over the last slots, and the requests in flight to it now."""

    requests: int = 0
    errors: int = 0
    in_flight: int = 0


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """A slot of time. Only the newest has more than the services: that is for now and not for the past."""

    number: int
    """Grows by one with each slot; every instance counts for itself."""
    services: dict[str, Counts]
    """Those that got requests; the empty name stands for requests that reached no service."""
    recent: dict[str, Counts] = {}
    """The same over the last `RECENT_SLOTS`."""
    backends: dict[str, dict[str, BackendLoad]] = {}
    connections: int = 0
    in_flight: int = 0
    workers: int = 0
    serving: int = 0
    follows: bool = True
    """Whether the instance hears from etcd."""
    left_out: int = 0
    """Services and backends beyond what a sample holds."""


RECENT_SLOTS = 5


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The first frame."""

    instance: str


class SampleError(Exception):
    """The other end says what it should not."""


def seal(key: bytes, nonce: bytes, number: int, body: bytes) -> bytes:
    """A frame."""
    digest = _digest(key, nonce, number, body)
    return (DIGEST_BYTES + len(body)).to_bytes(LENGTH_BYTES, "big") + digest + body


def unseal(key: bytes, nonce: bytes, number: int, frame: bytes) -> bytes:
    """The body of a frame without its length.

    Raises `SampleError` if it was not sealed with this key, or not as this frame of this connection.
    """
    digest, body = frame[:DIGEST_BYTES], frame[DIGEST_BYTES:]
    if not hmac.compare_digest(digest, _digest(key, nonce, number, body)):
        raise SampleError("a frame was not sealed with the viewer's key")
    return body


def _digest(key: bytes, nonce: bytes, number: int, body: bytes) -> bytes:
    return hmac.digest(key, nonce + number.to_bytes(8, "big") + body, "sha256")
