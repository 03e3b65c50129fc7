"""What a host believes about where an address is: one entry of its neighbour table, read in microseconds."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct

from tests.hosts.namespaces import Host, inside

_RTM_NEWNEIGH, _RTM_GETNEIGH = 28, 30
_NLM_F_REQUEST = 0x1
_NDA_DST, _NDA_LLADDR = 1, 2
_INCOMPLETE, _FAILED = 0x01, 0x20
_HEADER, _NDMSG, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBHiHBB"), struct.Struct("=HH")
_DISCARD_PORT = 9


class NeighbourTable:
    """One host's, of its interface `eth0`."""

    def __init__(self, host: Host) -> None:
        with inside(host.namespace):
            self._index = socket.if_nametoindex("eth0")
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            self._speakers = {
                version: socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))
            }
        self._netlink.bind((0, 0))
        self._netlink.settimeout(2.0)
        for speaker in self._speakers.values():
            speaker.setblocking(False)

    def close(self) -> None:
        for opened in (self._netlink, *self._speakers.values()):
            opened.close()

    def speak_to(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        """Send a packet there: a host that never does has no entry for it."""
        with contextlib.suppress(OSError):
            self._speakers[ip.version].sendto(b"", (str(ip), _DISCARD_PORT))

    def mac_of(self, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str | None:
        """The MAC address that packets for `ip` are sent to; `None`: there is none, it would ask first."""
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
        wanted = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(ip.packed), _NDA_DST) + ip.packed
        body = _NDMSG.pack(family, 0, 0, self._index, 0, 0, 0) + wanted
        self._netlink.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETNEIGH, _NLM_F_REQUEST, 0, 0) + body)
        answer = self._netlink.recv(4096)
        if _HEADER.unpack_from(answer)[1] != _RTM_NEWNEIGH:
            return None
        state = _NDMSG.unpack_from(answer, _HEADER.size)[4]
        if state & (_INCOMPLETE | _FAILED):
            return None
        at = _HEADER.size + _NDMSG.size
        while at + _ATTRIBUTE.size <= len(answer):
            length, kind = _ATTRIBUTE.unpack_from(answer, at)
            if kind == _NDA_LLADDR:
                return answer[at + _ATTRIBUTE.size : at + length].hex(":")
            at += max(length + 3 & ~3, _ATTRIBUTE.size)
        return None
