"""Whoever has the name of another instance is not that instance: the machine tells them apart."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from weldr.control.vip import identity
from weldr.control.vip.identity import started_anew, this_host, this_machine
from weldr.control.vip.rules import AskPeers, Claim, Claimant, Verdict, Wait, is_own, may_claim
from weldr.control.vip.virtual_ips import VirtualIps
from weldr.model.keys import KeySpace
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, is_same_instance

ID = "0123456789abcdef0123456789abcdef"
BOOT = "11111111-2222-3333-4444-555555555555"
NOW_S = 1000.0


class Machine:
    """What the files of a system say."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.id, self.boot, self.namespace = (directory / name for name in ("id", "boot", "namespace"))
        self.boot.write_text(f"{BOOT}\n")
        self.namespace.touch()
        monkeypatch.setattr(identity, "_MACHINE", self.id)
        monkeypatch.setattr(identity, "_BOOT", self.boot)
        monkeypatch.setattr(identity, "_NAMESPACE", self.namespace)

    def start_anew(self) -> None:
        self.boot.write_text("99999999-2222-3333-4444-555555555555\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_machine_is_the_same_one_after_a_restart_and_its_host_is_not(machine: Machine) -> None:
    machine.id.write_text(f"{ID}\n")
    before, host = this_machine(), this_host()
    assert (this_machine(), this_host()) == (before, host)
    machine.start_anew()
    assert this_machine() == before
    assert started_anew(host, this_host())
    machine.id.write_text(f"{ID[::-1]}\n")
    assert this_machine() != before


def test_another_namespace_of_the_same_kernel_is_another_host_that_was_not_started_anew(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, another = this_host(), machine.namespace.with_name("another")
    another.touch()
    monkeypatch.setattr(identity, "_NAMESPACE", another)
    assert this_host() != host
    assert not started_anew(host, this_host())


@pytest.mark.parametrize("text", [None, "", "\n", "uninitialized\n"])
def test_without_a_machine_id_the_boot_id_stands_for_it(machine: Machine, text: str | None) -> None:
    if text is not None:
        machine.id.write_text(text)
    before = this_machine()
    assert before
    assert this_machine() == before
    machine.start_anew()
    assert this_machine() not in ("", before)


def test_where_neither_is_there_the_name_of_the_host_stands_for_both(machine: Machine) -> None:
    machine.boot.unlink()
    machine.namespace.unlink()
    assert this_machine() == this_host() == socket.gethostname()


def test_neither_id_is_shown_to_the_network(machine: Machine) -> None:
    machine.id.write_text(ID)
    shown = this_machine() + this_host()
    machine.id.unlink()
    shown += this_machine()
    assert not any(secret[:8] in shown for secret in (ID, BOOT))


@pytest.mark.parametrize(
    ("host", "since", "anew"),
    [
        ("boot1/7", "boot1/7", False),
        ("boot1/7", "boot2/7", True),
        ("boot1/7", "boot2/8", True),
        ("boot1/7", "boot1/8", False),
        ("0123456789abcdef", "boot2/7", False),
        ("boot1/7", "0123456789abcdef", False),
        ("", "boot2/7", False),
        ("boot1/7", "", False),
    ],
    ids=[
        "the same",
        "another boot",
        "another boot and namespace",
        "another namespace",
        "of an older version",
        "to an older version",
        "from nowhere",
        "to nowhere",
    ],
)
def test_a_machine_was_started_anew_only_if_both_boots_are_known_and_differ(
    host: str, since: str, anew: bool
) -> None:
    assert started_anew(host, since) is anew


# --- the rules

RECORD = Holder(
    instance="a",
    address="10.0.0.100",
    token=5,
    lease=9,
    state="held",
    since="",
    window_s=2.2,
    promise_s=3.0,
    host="boot1/7",
    peers=["b", "c"],
    machines={"a": "A", "b": "B", "c": "C"},
)
OLDER = msgspec.structs.replace(RECORD, machines={})
"""As a version writes it that knows no machines."""


def verdict(
    name: str, machine: str, *, host: str = "boot9/7", gone_s: float = 0.0, record: Holder = RECORD
) -> Verdict:
    """Of an instance that has been there for long, `gone_s` after the holder's key went."""
    return may_claim(
        record,
        Claimant(
            name=name,
            host=host,
            machine=machine,
            now_s=NOW_S,
            boot_s=NOW_S - 100.0,
            promised_until_s=0.0,
            gone_since_s=NOW_S - gone_s,
            lease_gone=False,
            refused=False,
        ),
    )


@pytest.mark.parametrize("host", ["boot1/7", "boot2/7"], ids=["was restarted", "was on a host that was"])
def test_the_former_holder_claims_at_once_when_it(host: str) -> None:
    assert verdict("a", "A", host=host) == Claim()


def test_the_former_holder_waits_in_another_namespace_of_that_kernel() -> None:
    """Its address may still be in the first one."""
    assert verdict("a", "A", host="boot1/8") == Wait(NOW_S + wait_s(2.2), "the address may still be on a")


def test_a_namesake_of_the_holder_on_another_machine_waits_for_the_window_and_asks() -> None:
    assert isinstance(verdict("a", "X"), Wait)
    asks = verdict("a", "X", gone_s=3.0)
    assert isinstance(asks, AskPeers)
    assert asks.names == ("a", "b", "c")
    assert isinstance(verdict("a", "X", host="boot1/7", gone_s=3.0), AskPeers)


def test_a_namesake_of_a_peer_asks_where_the_peer_itself_claims() -> None:
    assert verdict("b", "B", gone_s=3.0) == Claim()
    asks = verdict("b", "X", gone_s=3.0)
    assert isinstance(asks, AskPeers)
    assert asks.names == ("a", "b", "c")


def test_a_record_of_an_older_version_goes_by_the_name_alone() -> None:
    assert verdict("b", "X", gone_s=3.0, record=OLDER) == Claim()
    assert isinstance(verdict("d", "X", gone_s=3.0, record=OLDER), AskPeers)
    assert verdict("a", "X", host="boot1/7", record=OLDER) == Claim()
    unnamed = msgspec.structs.replace(RECORD, machines={"a": "A", "b": ""})
    assert verdict("b", "X", gone_s=3.0, record=unnamed) == Claim(), "a peer of an older version has no machine"


@pytest.mark.parametrize(("name", "then"), [("b", Claim), ("d", AskPeers)], ids=["a peer", "no peer"])
def test_another_instance_on_the_holders_host_waits_for_the_window_as_anybody(
    name: str, then: type[Verdict]
) -> None:
    """The address may be in use by the holder, which is alive and was only cut off."""
    assert verdict(name, name.upper(), host=RECORD.host) == Wait(
        NOW_S + wait_s(2.2), "the address may still be on a"
    )
    assert isinstance(verdict(name, name.upper(), host=RECORD.host, gone_s=3.0), then)


@pytest.mark.parametrize(
    ("name", "host", "machine", "own"),
    [
        ("a", "boot1/7", "A", True),
        ("a", "boot2/9", "A", True),
        ("a", "boot1/8", "A", False),
        ("a", "boot1/7", "X", False),
        ("a", "boot2/9", "X", False),
        ("b", "boot1/7", "B", False),
        ("b", "boot1/7", "A", False),
    ],
    ids=[
        "on that host",
        "after a restart of the machine",
        "in another namespace",
        "a namesake there",
        "a namesake elsewhere",
        "a peer there",
        "a peer of that machine",
    ],
)
def test_only_an_earlier_life_of_the_same_instance_is_ones_own(
    name: str, host: str, machine: str, own: bool
) -> None:
    assert is_own(RECORD, name, host, machine) is own


def test_an_instance_is_told_by_its_machine_where_the_record_has_one() -> None:
    assert is_same_instance(RECORD, "b", "B")
    assert not is_same_instance(RECORD, "b", "X")
    assert is_same_instance(RECORD, "d", "X"), "it speaks of no other d"
    assert is_same_instance(OLDER, "b", "X")


async def test_an_instance_tells_the_others_what_machine_it_is_on(machine: Machine) -> None:
    machine.id.write_text(ID)
    client: Any = SimpleNamespace()
    virtual_ips = VirtualIps(client, KeySpace(), "a", ["[::]:80"], None, lambda: None, lambda: None)
    assert virtual_ips.peer is None
    virtual_ips._peers.address = "127.0.0.1:9"
    assert virtual_ips.peer is not None
    assert virtual_ips.peer.machine == virtual_ips._peers._machine == this_machine()
