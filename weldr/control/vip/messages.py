"""What instances say to each other directly, and how it is proven to come from an instance. Pure.

A datagram is an HMAC-SHA256 of the rest, and a message in MessagePack. The key is in etcd, so whoever can read
etcd's keys can speak. Each message carries who sent it in which life, and a number that grows: an old one is
worth nothing. A question is also addressed to one life of its receiver, and an answer to one question.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

import msgspec

_DIGEST_BYTES = hashlib.sha256().digest_size
MAX_DATAGRAM_BYTES = 32 * 1024
"""More than 64 virtual IPs and 64 holders take, unless their names are long beyond use."""
KEY_BYTES = 32
MAX_BOUND_S = 120.0
_MAX_NAMES = 256

Names = Annotated[list[str], msgspec.Meta(max_length=_MAX_NAMES)]


class Heartbeat(msgspec.Struct, frozen=True, tag="beat", array_like=True):
    """Sent to every instance all the time."""

    holds: Annotated[dict[str, int], msgspec.Meta(max_length=_MAX_NAMES)]
    """The tokens of what the sender holds, by virtual IP."""
    hears: Names
    """Whose heartbeats the sender receives, of those that hold anything: nobody asks for others."""


class PromiseQuestion(msgspec.Struct, frozen=True, tag="promise?", array_like=True):
    """Promise not to claim `vip` from the holder of `token` for so long."""

    number: int
    vip: str
    token: int
    duration_s: Annotated[float, msgspec.Meta(gt=0, le=60)]


class PromiseAnswer(msgspec.Struct, frozen=True, tag="promise!", array_like=True):
    """`refusal` is empty if it is promised."""

    number: int
    vip: str
    refusal: str


class RefusalQuestion(msgspec.Struct, frozen=True, tag="refuse?", array_like=True):
    """Refuse everything to the holder of `token` from now on."""

    number: int
    vip: str
    token: int


class RefusalAnswer(msgspec.Struct, frozen=True, tag="refuse!", array_like=True):
    """`refused`, or a promise is still in force."""

    number: int
    vip: str
    token: int
    refused: bool


class BoundQuestion(msgspec.Struct, frozen=True, tag="bound?", array_like=True):
    """Who has just arrived asks: until when is nobody to claim `vip`, as far as you know? `token` is of the
    holder that it knows of itself, or 0."""

    number: int
    vip: str
    token: int


class BoundAnswer(msgspec.Struct, frozen=True, tag="bound!", array_like=True):
    """The sender has promised so for so long, or is another holder itself; 0 if neither."""

    number: int
    vip: str
    left_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_BOUND_S)]


Body = (
    Heartbeat | PromiseQuestion | PromiseAnswer | RefusalQuestion | RefusalAnswer | BoundQuestion | BoundAnswer
)


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A body with its sender."""

    sender: str
    boot: str
    sequence: int
    receiver_boot: str
    body: Body


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def seal(key: bytes, message: Message) -> bytes:
    """The datagram."""
    payload = _encoder.encode(message)
    return hmac.digest(key, payload, "sha256") + payload


def unseal(key: bytes, datagram: bytes) -> Message | None:
    """The message, if it was sealed with this key."""
    digest, payload = datagram[:_DIGEST_BYTES], datagram[_DIGEST_BYTES:]
    if not hmac.compare_digest(digest, hmac.digest(key, payload, "sha256")):
        return None
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError:
        return None
