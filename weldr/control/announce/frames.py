"""Ethernet frames that tell a network where an address is, or ask it. Pure.

ARP: RFC 826; probe and announcement: RFC 5227. Neighbour advertisement and solicitation: RFC 4861, 4.3 and 4.4,
7.2.6 for unsolicited ones; the probe with an unspecified source: RFC 4862, 5.4.2.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_NO_MAC = bytes(6)
_ARP_HEAD = struct.pack("!HHBB", 1, 0x0800, 6, 4)
_REQUEST, _REPLY = 1, 2
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_OVERRIDE = 0x20000000
_HOP_LIMIT = 255
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_ALL_NODES = ipaddress.IPv6Address("ff02::1")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Claim:
    """Somebody on the network says that an address is theirs."""

    ip: IpAddress
    mac: str


def mac_bytes(mac: str) -> bytes:
    """`aa:bb:cc:dd:ee:ff` as bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def announcements(ip: IpAddress, mac: str) -> list[bytes]:
    """What makes neighbours learn that `ip` is at `mac` now."""
    raw_mac = mac_bytes(mac)
    if isinstance(ip, ipaddress.IPv4Address):
        # Some listen to the request form only, some to the reply form only.
        return [
            _arp(raw_mac, _REQUEST, raw_mac, ip.packed, _NO_MAC, ip.packed),
            _arp(raw_mac, _REPLY, raw_mac, ip.packed, _BROADCAST, ip.packed),
        ]
    option = bytes((_TARGET_LINK_LAYER, 1)) + raw_mac
    body = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + ip.packed + option
    return [_icmpv6(raw_mac, b"\x33\x33\x00\x00\x00\x01", ip, _ALL_NODES, body)]


def probe(ip: IpAddress, mac: str) -> bytes:
    """Asks who has `ip`, without saying that we do."""
    raw_mac = mac_bytes(mac)
    if isinstance(ip, ipaddress.IPv4Address):
        return _arp(raw_mac, _REQUEST, raw_mac, bytes(4), _NO_MAC, ip.packed)
    solicited = ipaddress.IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + ip.packed[-3:])
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + ip.packed
    ethernet = b"\x33\x33" + solicited.packed[-4:]
    return _icmpv6(raw_mac, ethernet, ipaddress.IPv6Address(0), solicited, body)


def claim_in(frame: bytes) -> Claim | None:
    """Whom a received frame names as the owner of which address."""
    if len(frame) < 42:
        return None
    ethertype = int.from_bytes(frame[12:14])
    if ethertype == ETHERTYPE_ARP and frame[14:20] == _ARP_HEAD:
        sender = ipaddress.IPv4Address(frame[28:32])
        return Claim(sender, frame[22:28].hex(":")) if int(sender) else None
    if ethertype != ETHERTYPE_IPV6 or len(frame) < 78:
        return None
    # With another hop limit it came through a router, from somebody who is no neighbour (RFC 4861, 7.1.2).
    if (frame[20], frame[21], frame[54]) == (_ICMPV6, _HOP_LIMIT, _ADVERTISEMENT):
        return Claim(ipaddress.IPv6Address(frame[62:78]), frame[6:12].hex(":"))
    return None


def _arp(
    source: bytes, operation: int, sender: bytes, sender_ip: bytes, target: bytes, target_ip: bytes
) -> bytes:
    ethernet = _BROADCAST + source + struct.pack("!H", ETHERTYPE_ARP)
    return ethernet + _ARP_HEAD + struct.pack("!H", operation) + sender + sender_ip + target + target_ip


def _icmpv6(
    source_mac: bytes,
    target_mac: bytes,
    source: ipaddress.IPv6Address,
    target: ipaddress.IPv6Address,
    body: bytes,
) -> bytes:
    pseudo = source.packed + target.packed + struct.pack("!II", len(body), _ICMPV6)
    checksum = _checksum(pseudo + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, _HOP_LIMIT) + source.packed + target.packed
    return target_mac + source_mac + struct.pack("!H", ETHERTYPE_IPV6) + header + body


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
