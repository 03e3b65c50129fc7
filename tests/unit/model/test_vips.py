"""Virtual IPs as values: what is taken, what is refused and where, and the inequality of their times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.decode import Fault, decode
from weldr.model.keys import Kind
from weldr.model.vip_timing import DRIFT, KERNEL_LATENESS_S, Timing, TimingError
from weldr.model.vips import Vip


def test_an_address_alone_is_a_virtual_ip_and_gets_a_prefix_of_its_own() -> None:
    vip = decode(Kind.VIP, b'{"address": "10.0.0.100"}')
    assert isinstance(vip, Vip)
    assert str(vip.interface_address) == "10.0.0.100/32"
    six = decode(Kind.VIP, b'{"address": "2001:DB8::100"}')
    assert isinstance(six, Vip)
    assert str(six.interface_address) == "2001:db8::100/128"


@pytest.mark.parametrize(
    ("value", "place", "reason"),
    [
        ('{"address": "10.0.0"}', "$.address", "is no IP address"),
        ('{"address": "127.0.0.1"}', "$.address", "unicast"),
        ('{"address": "224.0.0.18"}', "$.address", "unicast"),
        ('{"address": "255.255.255.255"}', "$.address", "unicast"),
        ('{"address": "::ffff:10.0.0.1"}', "$.address", "unicast"),
        ('{"address": "fe80::1"}', "$.interface", "link-local"),
        ('{"address": "fe80::1%eth0", "interface": "eth0"}', "$.address", "zone"),
        ('{"address": "10.0.0.1", "interface": "a-name-that-is-too-long"}', "$.interface", "1 to 15"),
        ('{"address": "10.0.0.1", "announce": "exec"}', "$.command", "belongs to"),
        ('{"address": "10.0.0.1", "command": "x"}', "$.command", "belongs to"),
        ('{"address": "10.0.0.1", "check": "../../bin/sh"}', "$.check", "regex"),
        ('{"address": "10.0.0.1", "check": ".."}', "$.check", "regex"),
        ('{"address": "10.0.0.1", "lifetime_s": 2}', "$.lifetime_s", "expected a lifetime of 1 s to 1 s"),
        ('{"address": "10.0.0.1", "ttl_s": 2}', "$.ttl_s", ">= 3"),
        ('{"address": "10.0.0.1", "adress": "x"}', "$", "did you mean `address`"),
    ],
)
def test_a_value_that_is_no_virtual_ip_is_refused_with_the_place(value: str, place: str, reason: str) -> None:
    fault = decode(Kind.VIP, value.encode())
    assert isinstance(fault, Fault)
    assert fault.place == place
    assert reason in fault.reason


@given(ttl_s=st.integers(-5, 100), lifetime_s=st.integers(-5, 100), unseating=st.booleans())
def test_times_are_refused_or_safe(ttl_s: int, lifetime_s: int, unseating: bool) -> None:
    try:
        timing = Timing(ttl_s=ttl_s, lifetime_s=lifetime_s, unseating=unseating)
    except TimingError:
        return
    # A confirmation was sent at 0. The address is set at the last moment that is allowed, the kernel is late.
    gone_s = timing.latest_set_s(timing.window_s) + lifetime_s + KERNEL_LATENESS_S
    assert gone_s <= ttl_s * (1 - DRIFT) + 1e-9, "etcd may let the lease expire at ttl, by a faster clock"
    assert gone_s <= timing.wait_s * (1 - DRIFT) + 1e-3, "who unseats waits, by a faster clock"
    promised_s = timing.latest_set_s(timing.promised_window_s) + lifetime_s + KERNEL_LATENESS_S
    assert promised_s <= timing.promise_s * (1 - DRIFT) + 1e-9, "who promised counts by a faster clock"
    assert timing.latest_set_s(timing.window_s) > 0, "an answer in good time is of use"


def test_the_defaults_leave_room_for_renewals_that_fail() -> None:
    timing = Timing()
    assert timing.ask_after_s + timing.renewal_s < timing.lifetime_s
    assert 3 * timing.renewal_s < timing.lifetime_s
