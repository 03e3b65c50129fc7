"""What backends are told of where a request came from: `X-Forwarded-*`, `Forwarded` (RFC 7239), or both. Pure.

Only the word of a trusted proxy is passed on, with the next hop appended. Anybody else's is overwritten, so
that a backend can rely on what it reads. Fields of the kind that is not written are removed, from whomever they
come.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import ClassVar

from weldr.model.values import Settings
from weldr.proxy.networks import NetworkSet, parsed_address


class ForwardedFields:
    """What a request said of its origin."""

    __slots__ = ("_values",)

    NAMES: ClassVar = (
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    )

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """One field; `name` is one of `NAMES`."""
        earlier = self._values.get(name)
        self._values[name] = value if earlier is None else earlier + b", " + value

    def get(self, name: bytes) -> bytes | None:
        """The value, of several fields joined; `None` if there was none, or an empty one."""
        return self._values.get(name) or None


class ForwardingPolicy:
    """Whom to trust and what to write, compiled from the settings."""

    __slots__ = ("_trusted", "forwarded", "x_forwarded")

    def __init__(self, settings: Settings) -> None:
        self._trusted = NetworkSet(settings.trusted_proxies) if settings.trusted_proxies else None
        self.x_forwarded = settings.forwarded_fields != "forwarded"
        self.forwarded = settings.forwarded_fields != "x-forwarded"

    def trusts(self, address: str) -> bool:
        """Whether this address is a trusted proxy's."""
        return self._trusted is not None and address in self._trusted


class Forwarding:
    """The fields for the requests of one client connection."""

    __slots__ = (
        "_came",
        "_element",
        "_fixed",
        "_host",
        "_lines",
        "_peer",
        "_port",
        "_rest",
        "_trusted",
        "peer",
        "policy",
    )

    def __init__(self, policy: ForwardingPolicy, peer: str | None, port: int) -> None:
        """`peer` is the client's address, `port` the one that it connected to."""
        self.policy = policy
        self.peer = peer or "unknown"
        """The address of the other end of the connection."""
        self._trusted = peer is not None and policy.trusts(peer)
        self._peer, self._port, self._element, self._fixed = _origin(peer, port)
        self.forget()

    def client(self, came: ForwardedFields | None) -> str:
        """The address of whoever asked: the peer, or if that is a trusted proxy, whom it speaks for.

        From the last hop backwards the first that is no trusted proxy: what stands before it anybody may have
        invented. Read from the fields of the kind that weldr writes itself.
        """
        if came is None or not self._trusted:
            return self.peer
        client = self.peer
        for hop in reversed(_hops(came, x_forwarded=self.policy.x_forwarded)):
            if not parsed_address(hop)[0]:
                break
            # Behind the % of an IPv6 zone may stand anything, and only that hop knows what it means.
            client = hop.partition("%")[0]
            if not self.policy.trusts(hop):
                break
        return client

    def forget(self) -> None:
        """Hold no memory for the sake of speed."""
        self._host = self._lines = self._rest = b""
        self._came: ForwardedFields | None = None

    def rest(self, host: bytes, lines: bytes, came: ForwardedFields | None) -> bytes:
        """What follows the target in the head of a request to `host` with these field `lines` of the client.

        That of the last request is kept: the next one often has the very same, as the objects that were
        remembered for it.
        """
        if lines is not self._lines or host is not self._host or came is not self._came:
            self._host, self._lines, self._came = host, lines, came
            self._rest = b" HTTP/1.1\r\nHost: " + host + lines + self.lines(host, came)
        return self._rest

    def lines(self, host: bytes, came: ForwardedFields | None) -> bytes:
        """The lines for a request to `host` that `came` with such fields of its own."""
        if came is not None and self._trusted:
            return self._appended(host, came)
        lines = b""
        if self.policy.x_forwarded:
            lines = b"\r\nX-Forwarded-Host: " + host + self._fixed
        if self.policy.forwarded:
            lines += b"\r\nForwarded: " + self._own_element(host)
        return lines

    def _own_element(self, host: bytes) -> bytes:
        # Always quoted: a host may hold a colon, never a quote (RFC 7239, section 5.3).
        return self._element + b';host="' + host + b'";proto=http'

    def _appended(self, host: bytes, came: ForwardedFields) -> bytes:
        lines = b""
        if self.policy.x_forwarded:
            before = came.get(b"x-forwarded-for")
            lines = _lines(
                (b"X-Forwarded-Host", came.get(b"x-forwarded-host") or host),
                (b"X-Forwarded-For", self._peer if before is None else before + b", " + self._peer),
                (b"X-Forwarded-Proto", came.get(b"x-forwarded-proto") or b"http"),
                (b"X-Forwarded-Port", came.get(b"x-forwarded-port") or self._port),
            )
        if self.policy.forwarded:
            before = came.get(b"forwarded")
            own = self._own_element(host)
            if before is not None and _CLOSED_QUOTES.fullmatch(before):
                own = before + b", " + own
            lines += b"\r\nForwarded: " + own
        return lines


def _hops(came: ForwardedFields, *, x_forwarded: bool) -> list[str]:
    """The addresses that a request came by, without ports, as the fields have them."""
    if x_forwarded:
        hops = (came.get(b"x-forwarded-for") or b"").split(b",")
    else:
        hops = [
            found[1] if (found := _FOR.search(element)) else b""
            for element in (came.get(b"forwarded") or b"").split(b",")
        ]
    return [_without_port(hop.strip(b' \t"').decode("latin-1")) for hop in hops]


_CLOSED_QUOTES = re.compile(rb'(?:[^"]|"(?:[^"\\]|\\.)*+")*+')
"""A value that ends outside of quotes. Behind another, an element would only go on with what is quoted."""
_FOR = re.compile(rb"(?:^|;)[ \t]*for=(\"[^\"]*\"|[^;]*)", re.IGNORECASE)


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


@lru_cache(maxsize=4096)
def _origin(peer: str | None, port: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Peer and port as they are written, the beginning of an element of `Forwarded`, and the usual lines."""
    address = b"unknown" if peer is None else peer.encode("ascii")
    number = b"%d" % port
    lines = _lines(
        (b"X-Forwarded-For", address), (b"X-Forwarded-Proto", b"http"), (b"X-Forwarded-Port", number)
    )
    return address, number, b"for=" + (b'"[%b]"' % address if b":" in address else address), lines


def _lines(*fields: tuple[bytes, bytes]) -> bytes:
    return b"".join([b"\r\n" + name + b": " + value for name, value in fields])
