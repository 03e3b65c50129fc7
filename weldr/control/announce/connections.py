"""Cuts the TCP connections to an address that has left this host (`ss --kill`, SOCK_DESTROY).

Their clients then get a reset now, from the address that still routes here, and not a silence of minutes.
Where the kernel cannot do it (CONFIG_INET_DIAG_DESTROY), nothing happens.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import time

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 0x1, 0x4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TIME_WAIT, _CLOSED, _LISTEN = 6, 7, 10
_ALIVE = 0xFFF & ~(1 << _TIME_WAIT | 1 << _CLOSED | 1 << _LISTEN)
_HEAD = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_ID_BYTES = 48
"""`struct inet_diag_sockid`: ports, source and destination address, interface, cookie."""
_BUFFER_BYTES = 1 << 17
_TIMEOUT_S = 1.0
_LIMIT_S = 0.15
"""The caller's event loop stands still meanwhile, and has heartbeats to send."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def cut_connections(ip: IpAddress) -> int:
    """Reset the TCP connections whose local end is `ip`, as many as can be in a moment; how many."""
    try:
        with _diagnosis() as diag:
            deadline_s = time.monotonic() + _LIMIT_S
            return sum(
                _destroy(diag, family, identity)
                for family in (socket.AF_INET, socket.AF_INET6)
                for identity in _sockets(diag, family, _forms(ip))
                if time.monotonic() < deadline_s
            )
    except OSError:
        return 0


def _diagnosis() -> socket.socket:
    diag = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    diag.settimeout(_TIMEOUT_S)
    diag.bind((0, 0))
    return diag


def _forms(ip: IpAddress) -> set[bytes]:
    # A connection over IPv4 to a socket that listens on [::] is an IPv6 socket with a mapped address.
    return {ip.packed.ljust(16, b"\0"), bytes(10) + b"\xff\xff" + ip.packed}


def _sockets(diag: socket.socket, family: int, wanted: set[bytes]) -> list[bytes]:
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _ALIVE) + bytes(_ID_BYTES)
    diag.send(_message(_SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP, body))
    found: list[bytes] = []
    while True:
        data = diag.recv(_BUFFER_BYTES)
        while len(data) >= _HEAD.size:
            length, kind, *_ = _HEAD.unpack_from(data)
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or length < _HEAD.size:
                return found
            # `struct inet_diag_msg`: four bytes, then the identity.
            identity = data[_HEAD.size + 4 : _HEAD.size + 4 + _ID_BYTES]
            if identity[4:20] in wanted:
                found.append(identity)
            data = data[(length + 3) & ~3 :]


def _destroy(diag: socket.socket, family: int, identity: bytes) -> bool:
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFF) + identity
    diag.send(_message(_SOCK_DESTROY, _NLM_F_ACK, body))
    with contextlib.suppress(TimeoutError):
        answer = diag.recv(_BUFFER_BYTES)
        return len(answer) >= _HEAD.size + 4 and struct.unpack_from("=i", answer, _HEAD.size)[0] == 0
    return False


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEAD.pack(_HEAD.size + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body
