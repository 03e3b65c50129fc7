"""Which virtual IPs an instance takes part in: by the keys alone, whatever the order they were seen in."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.unit.control.vip_site import Site, holder
from weldr.control.announce.nothing import NoAnnouncer
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.standing import standings_of
from weldr.control.vip.view import WantedVip
from weldr.control.vip.wanted import MAX_VIPS, chosen
from weldr.etcd.client import Compare
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace
from weldr.model.vips import Vip


def wanted(created: int, address: str, **rest: str) -> WantedVip:
    return WantedVip(Vip(address=address, **rest), 100 - created, created)  # type: ignore[arg-type]


def test_of_two_keys_with_one_address_the_older_one_counts() -> None:
    keys = {
        "a": wanted(3, "10.0.0.100/24"),
        "b": wanted(1, "10.0.0.100"),
        "c": wanted(2, "10.0.0.101"),
        "d": wanted(4, "2001:db8:0::1"),
        "e": wanted(5, "2001:db8::1"),
    }
    for order in permutations(keys):
        taken, left_out = chosen({name: keys[name] for name in order})
        assert set(taken) == {"b", "c", "d"}
        assert left_out == {
            "a": "10.0.0.100 is the address of vips/b, which was there first",
            "e": "2001:db8::1 is the address of vips/d, which was there first",
        }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (wanted(1, "fe80::1", interface="eth0"), wanted(2, "fe80::1", interface="eth1")),
        (wanted(1, "10.0.0.100", announce="none"), wanted(2, "10.0.0.100")),
        (wanted(1, "10.0.0.100"), wanted(2, "10.0.0.100", announce="none")),
    ],
    ids=["link-local on two networks", "leadership alone, first", "leadership alone, second"],
)
def test_what_is_no_second_holder_is_taken(first: WantedVip, second: WantedVip) -> None:
    assert chosen({"a": first, "b": second}) == ({"a": first.vip, "b": second.vip}, {})


def test_a_last_good_value_gives_way_to_what_a_key_says_now() -> None:
    # Who started later never saw it, and takes part in the other one.
    keys = {"a": replace(wanted(1, "10.0.0.100"), kept=True), "b": wanted(2, "10.0.0.100")}
    taken, left_out = chosen(keys)
    assert set(taken) == {"b"} == set(chosen({"b": keys["b"]})[0])
    assert left_out == {"a": "10.0.0.100 is the address of vips/b, whose value can be understood"}


def test_an_address_of_ipv4_is_one_whatever_its_interface() -> None:
    keys = {"a": wanted(1, "169.254.1.1"), "b": wanted(2, "169.254.1.1", interface="eth0")}
    assert set(chosen(keys)[0]) == {"a"}


def test_who_looks_at_virtual_ips_is_told_why_one_is_left_out() -> None:
    pairs = [
        KeyValue(b"/weldr/vips/" + name, b'{"address": "10.0.0.100"}', revision, revision)
        for revision, name in ((5, b"late"), (3, b"web"))
    ]
    late, web = standings_of(pairs, KeySpace())
    assert late.row()[-1] == late.document()["left_out"]
    assert late.left_out == "10.0.0.100 is the address of vips/web, which was there first"
    assert not web.left_out


def test_there_is_a_limit_and_a_new_key_pushes_out_none() -> None:
    keys = {f"v{99 - number}": wanted(number, f"10.0.0.{number + 1}") for number in range(MAX_VIPS + 1)}
    taken, left_out = chosen(keys)
    assert len(taken) == MAX_VIPS
    assert list(left_out) == [f"v{99 - MAX_VIPS}"]
    assert "at most" in left_out[f"v{99 - MAX_VIPS}"]


async def test_an_address_is_claimed_for_no_other_wish_than_the_one_that_is_in_etcd() -> None:
    """One that was changed, or cannot be understood any more, is another revision of its key."""
    site = Site()
    site.view.fold([revision(4, b'{"address": "10.0.0.100"}')], 0.0)
    running = VirtualIp("web", site.view.vips["web"].vip, site.context, NoAnnouncer())
    running._claiming.probed = True
    running._seat._candidate.adopt(7, 3, 7)
    compared: list[Compare] = []

    async def confirm(compares: list[Compare], operations: object) -> Any:
        compared[:] = compares
        return SimpleNamespace(held=False, leads=True, queue=())

    running._seat.confirm = confirm  # type: ignore[method-assign, assignment]
    await running._claim()
    assert Compare.mod_revision(b"/weldr/vips/web", "==", 4) in compared
    site.view.fold([revision(5, b"{")], 0.0)
    await running._claim()
    assert Compare.mod_revision(b"/weldr/vips/web", "==", 5) in compared
    compared.clear()
    site.view.fold([revision(6, b'{"address": "10.0.0.101"}')], 0.0)
    await running._claim()
    assert compared == []


async def test_an_address_is_claimed_only_while_what_other_keys_say_of_it_is_as_it_was_judged() -> None:
    site = Site()
    site.view.fold([revision(4, b'{"address": "10.0.0.100"}')], 0.0)
    left = msgspec.structs.replace(holder("b"), state="released")
    for key, value in (
        (b"holders/gone", msgspec.json.encode(left)),
        (b"holders/old", msgspec.json.encode(left)),
        (b"vips/old", b'{"address": "10.0.0.101"}'),
    ):
        site.view.fold([Revision(5, (Event(KeyValue(b"/weldr/" + key, value, 5, 5)),))], 0.0)
    running = VirtualIp("web", site.view.vips["web"].vip, site.context, NoAnnouncer())
    running._claiming.probed = True
    running._seat._candidate.adopt(7, 3, 7)
    compared: list[Compare] = []

    async def confirm(compares: list[Compare], operations: object) -> Any:
        compared[:] = compares
        return SimpleNamespace(held=False, leads=True, queue=())

    running._seat.confirm = confirm  # type: ignore[method-assign, assignment]
    await running._claim()
    assert Compare.mod_revision(b"/weldr/holders/old", "==", 5) in compared
    assert all(compare.key != b"/weldr/holders/gone" for compare in compared), "etcd takes 128 at most"


def revision(number: int, value: bytes) -> Revision:
    return Revision(number, (Event(KeyValue(b"/weldr/vips/web", value, 4, number)),))
