"""Speaks to the neighbours on one interface about one address: announces it, probes for it, hears conflicts."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable

from weldr.control.announce.frames import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    Claim,
    IpAddress,
    announcements,
    claim_in,
    mac_bytes,
    probe,
)
from weldr.control.announce.rtnetlink import Link

_FIRST_GAPS_S = (0.0, 0.05, 0.15, 0.3, 0.5, 1.0, 2.0)
"""Increasing: frames right after a takeover are the ones that get lost."""
_INTERVAL_S = 60.0
"""Switches forget where a quiet address is, after some minutes as a rule."""
_PROBES = 3
_PROBE_GAP_S = 0.1
_LEAST_CONFLICT_GAP_S = 1.0
_FRAMES_PER_TURN = 64
_SO_ATTACH_FILTER = 26
_FRAME_BYTES = 256
_MAC_BYTES = 6


class Neighbours:
    """Needs CAP_NET_RAW; raises `OSError` where that is missing."""

    def __init__(
        self, link: Link, ip: IpAddress, is_here: Callable[[], bool], on_conflict: Callable[[str], None]
    ) -> None:
        """`is_here` is asked before each announcement: a process that was stopped goes on here, too, and must
        not draw to this host what another one holds by now. `on_conflict` is told the MAC address of another
        host that says it has `ip`."""
        self._link = link
        self._ip = ip
        self._is_here = is_here
        self._on_conflict = on_conflict
        # A tunnel has no neighbours to tell: what is sent there would be taken for packets.
        self._speaks = len(mac_bytes(link.mac)) == _MAC_BYTES
        ethertype = ETHERTYPE_ARP if ip.version == 4 else ETHERTYPE_IPV6
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            _filter(self._socket, ethertype)
            self._socket.setblocking(False)
            self._socket.bind((link.name, ethertype))
        except OSError:
            self._socket.close()
            raise
        self._claims: list[Claim] = []
        self._announcing: asyncio.Task[None] | None = None
        self._last_conflict_s = 0.0
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def announce(self) -> None:
        """Say that the address is here: now, several times soon, and then at an interval."""
        self._say()
        self._stop()
        self._announcing = asyncio.create_task(self._go_on_announcing(), name=f"announce-{self._ip}")

    def stop(self) -> None:
        """Say no more."""
        self._stop()

    async def probe(self) -> str | None:
        """The MAC address of another host that answers for the address."""
        if not self._speaks:
            return None
        self._claims.clear()
        for _ in range(_PROBES):
            self._send(probe(self._ip, self._link.mac))
            await asyncio.sleep(_PROBE_GAP_S)
            if self._claims:
                return self._claims[0].mac
        return None

    def close(self) -> None:
        """Say and hear no more."""
        self._stop()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _stop(self) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
            self._announcing = None

    async def _go_on_announcing(self) -> None:
        for gap_s in _FIRST_GAPS_S[1:]:
            await asyncio.sleep(gap_s)
            self._say()
        while True:
            await asyncio.sleep(_INTERVAL_S)
            self._say()

    def _say(self) -> None:
        if not self._speaks or not self._is_here():
            return
        for frame in announcements(self._ip, self._link.mac):
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except OSError:
            # The link is down or the queue full. The next announcement is due soon.
            return

    def _read(self) -> None:
        for _ in range(_FRAMES_PER_TURN):
            try:
                frame = self._socket.recv(_FRAME_BYTES)
            except OSError:
                return
            claim = claim_in(frame)
            if claim is not None and claim.ip == self._ip and claim.mac != self._link.mac:
                self._hear(claim)

    def _hear(self, claim: Claim) -> None:
        del self._claims[8:]
        self._claims.append(claim)
        if self._announcing is None or not self._is_here():
            return
        now_s = asyncio.get_running_loop().time()
        if now_s - self._last_conflict_s >= _LEAST_CONFLICT_GAP_S:
            self._last_conflict_s = now_s
            self._say()
            self._on_conflict(claim.mac)


def _filter(packets: socket.socket, ethertype: int) -> None:
    """Have the kernel drop all frames but ARP, or but neighbour advertisements: a busy host has many others."""
    load_half, load_byte, equal, give = 0x28, 0x30, 0x15, 0x06
    if ethertype == ETHERTYPE_ARP:
        program = [(load_half, 0, 0, 12), (equal, 0, 1, ETHERTYPE_ARP)]
    else:
        program = [(load_byte, 0, 0, 20), (equal, 0, 3, 58), (load_byte, 0, 0, 54), (equal, 0, 1, 136)]
    program += [(give, 0, 0, _FRAME_BYTES), (give, 0, 0, 0)]
    raw = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(raw)
    described = struct.pack("HL", len(program), ctypes.addressof(buffer))
    packets.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
