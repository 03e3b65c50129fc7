"""The cookie that brings a client back to the backend that it had before.

Its value is a signature (HMAC-SHA-256) of the service's and the backend's names, and nothing else: it tells
nobody anything, and nobody who was not given it can make it. Every instance has the same key, and so makes and
knows the same values.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import blake2b, sha256
from typing import Generic

from weldr.model.balancing import Sticky
from weldr.proxy.balancing.balancer import AnyMember
from weldr.proxy.balancing.request_key import cookie_finder
from weldr.proxy.request_head import RequestHead

_SIGNATURE_BYTES = 18
"""Of 32: 144 bits, which are 24 characters."""


class StickyCookie(Generic[AnyMember]):
    """Of one service: whose cookie is which."""

    __slots__ = ("_attributes", "_find", "_key", "_members", "_name", "_values", "drain_s")

    def __init__(self, service: str, sticky: Sticky, key: bytes) -> None:
        """`key` is secret."""
        self._key = hmac.new(key, b"sticky\0" + service.encode("utf-8"), sha256)
        self._name = (sticky.cookie or _default_name(service)).encode("ascii")
        self._attributes = _attributes(sticky)
        self._find: Callable[[RequestHead], bytes | None] = cookie_finder(self._name.decode("ascii"))
        self._members: dict[bytes, AnyMember] = {}
        self._values: dict[AnyMember, bytes] = {}
        self.drain_s = sticky.drain_s

    def put(self, member: AnyMember, name: str) -> None:
        """It may get requests from clients that have its cookie."""
        if member not in self._values:
            signature = self._key.copy()
            signature.update(b"\0" + name.encode("utf-8"))
            value = urlsafe_b64encode(signature.digest()[:_SIGNATURE_BYTES])
            self._values[member] = value
            self._members[value] = member

    def remove(self, member: AnyMember) -> None:
        """It may not any more."""
        value = self._values.pop(member, None)
        # Another of the same name may have come before this one went.
        if value is not None and self._members.get(value) == member:
            del self._members[value]

    def member(self, head: RequestHead) -> AnyMember | None:
        """Whose cookie came with this request."""
        value = self._find(head)
        return None if value is None else self._members.get(value)

    def line(self, member: AnyMember) -> bytes:
        """The field line that gives the client its cookie; empty for who has gone since it was chosen."""
        value = self._values.get(member)
        return b"" if value is None else b"\r\nSet-Cookie: %b=%b%b" % (self._name, value, self._attributes)


def _default_name(service: str) -> str:
    return "weldr_" + blake2b(service.encode("utf-8"), digest_size=4).hexdigest()


def _attributes(sticky: Sticky) -> bytes:
    age = "" if sticky.max_age_s is None else f"; Max-Age={sticky.max_age_s}"
    secure = "; Secure" if sticky.secure else ""
    return f"; Path=/{age}; HttpOnly{secure}; SameSite={sticky.same_site.capitalize()}".encode("ascii")
