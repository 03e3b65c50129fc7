"""Networks, and who is in them; clients behind trusted proxies."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.values import Settings
from weldr.proxy.forwarding import ForwardedFields, Forwarding, ForwardingPolicy
from weldr.proxy.networks import NetworkSet


@given(st.ip_addresses(), st.lists(st.ip_addresses(network="10.0.0.0/8") | st.ip_addresses(), max_size=4))
def test_an_address_is_in_a_set_of_networks_as_the_library_says(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    bases: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
) -> None:
    networks = [
        ipaddress.ip_network(f"{base}/{length}", strict=False)
        for length, base in zip((8, 24, 30, 32), bases, strict=False)
    ]
    plain = address
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        plain = address.ipv4_mapped
    assert (str(address) in NetworkSet(map(str, networks))) is any(plain in network for network in networks)


def test_an_ipv4_address_in_ipv6_is_the_same_client_and_an_unknown_one_is_nowhere() -> None:
    assert "::ffff:10.1.2.3" in NetworkSet(["10.0.0.0/8"])
    assert all(each in NetworkSet(["::ffff:10.0.0.0/104"]) for each in ("10.1.2.3", "::ffff:10.1.2.3"))
    assert "11.0.0.1" not in NetworkSet(["::ffff:10.0.0.0/104"])
    assert "::ffff:11.0.0.1" in NetworkSet(["::ffff:0:0/96"])
    assert "::1" in NetworkSet(["::/8"])
    assert "unknown" not in NetworkSet(["0.0.0.0/0", "::/0"])


TRUSTED = ["10.0.0.0/8", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "value", "client"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.7, nonsense", "10.0.0.1"),
        ("10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", ",,", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", "2001:db9::1", "2001:db9::1"),
        ("2001:db8::1", "[2001:db9::1]:80", "2001:db9::1"),
        ("10.0.0.1", 'fe80::1%" 200 "\u00e9', "fe80::1"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_trusted_proxy(peer: str, value: str, client: str) -> None:
    came = ForwardedFields()
    came.add(b"x-forwarded-for", value.encode())
    forwarding = Forwarding(ForwardingPolicy(Settings(trusted_proxies=TRUSTED)), peer, 80)
    assert forwarding.client(came) == client
    assert forwarding.client(None) == peer


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=198.51.100.7;proto=http", "198.51.100.7"),
        ('for=203.0.113.9, host=x; For="198.51.100.7:80"', "198.51.100.7"),
        ('for="[2001:db9::1]:80";by=10.0.0.1', "2001:db9::1"),
        ("for=_hidden", "10.0.0.1"),
        ("proto=http", "10.0.0.1"),
    ],
)
def test_the_client_is_read_from_the_kind_of_field_that_weldr_writes(value: str, client: str) -> None:
    came = ForwardedFields()
    came.add(b"forwarded", value.encode())
    came.add(b"x-forwarded-for", b"6.6.6.6")
    settings = Settings(trusted_proxies=TRUSTED, forwarded_fields="forwarded")
    assert Forwarding(ForwardingPolicy(settings), "10.0.0.1", 80).client(came) == client
