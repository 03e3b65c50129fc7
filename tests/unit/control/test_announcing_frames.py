"""The frames that move an address, byte by byte as the RFCs have them."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from weldr.control.announce.frames import Claim, announcements, claim_in, mac_bytes, probe

FOUR = ipaddress.ip_address("10.0.0.100")
SIX = ipaddress.ip_address("2001:db8::100")
MAC = "02:00:00:00:00:07"


def test_gratuitous_arp_is_sent_in_request_and_in_reply_form() -> None:
    request, reply = announcements(FOUR, MAC)
    head = b"\xff" * 6 + mac_bytes(MAC) + bytes.fromhex("0806 0001 0800 06 04")
    assert request == head + b"\0\1" + mac_bytes(MAC) + FOUR.packed + bytes(6) + FOUR.packed
    assert reply == head + b"\0\2" + mac_bytes(MAC) + FOUR.packed + b"\xff" * 6 + FOUR.packed


def test_an_arp_probe_claims_nothing() -> None:
    frame = probe(FOUR, MAC)
    assert frame[28:32] == bytes(4), "the sender's address is unspecified: nobody learns anything (RFC 5227)"
    assert frame[38:42] == FOUR.packed
    assert claim_in(frame) is None


def test_an_unsolicited_neighbour_advertisement_overrides_and_goes_to_all_nodes() -> None:
    (frame,) = announcements(SIX, MAC)
    assert frame[:6] == bytes.fromhex("333300000001")
    assert frame[12:14] == bytes.fromhex("86dd")
    assert frame[21] == 255, "a hop limit of less would be ignored (RFC 4861, 7.1.2)"
    assert frame[22:38] == SIX.packed
    assert frame[38:54] == ipaddress.ip_address("ff02::1").packed
    kind, code, _, flags = struct.unpack_from("!BBHI", frame, 54)
    assert (kind, code, flags) == (136, 0, 0x20000000)
    assert frame[62:78] == SIX.packed
    assert frame[78:] == bytes((2, 1)) + mac_bytes(MAC)


@pytest.mark.parametrize("frame", [*announcements(SIX, MAC), probe(SIX, MAC)], ids=["advertisement", "probe"])
def test_the_checksum_makes_the_sum_of_all_words_zero(frame: bytes) -> None:
    body = frame[54:]
    covered = frame[22:54] + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_a_probe_for_ipv6_comes_from_nobody_and_goes_to_the_solicited_node() -> None:
    frame = probe(SIX, MAC)
    assert frame[:6] == bytes.fromhex("3333ff000100")
    assert frame[22:38] == bytes(16)
    assert frame[38:54] == ipaddress.ip_address("ff02::1:ff00:100").packed
    assert frame[54] == 135


def test_what_others_say_is_read_and_what_is_cut_short_is_nothing() -> None:
    for ip in (FOUR, SIX):
        for frame in announcements(ip, MAC):
            assert claim_in(frame) == Claim(ip, MAC)
            for length in range(len(frame) - 9):
                assert claim_in(frame[:length]) in (None, Claim(ip, MAC))
    assert claim_in(bytes(100)) is None


def test_an_advertisement_from_beyond_a_router_claims_nothing() -> None:
    (frame,) = announcements(SIX, MAC)
    assert claim_in(frame[:21] + bytes((254,)) + frame[22:]) is None
