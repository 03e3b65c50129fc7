"""What comes in at the UDP port counts only if an instance that exists said it now, and said it to us."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec
import pytest

from weldr.control.vip.messages import (
    MAX_DATAGRAM_BYTES,
    Body,
    Heartbeat,
    Message,
    PromiseQuestion,
    seal,
    unseal,
)
from weldr.control.vip.peers import PeerNetwork
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.view import Secret, View
from weldr.etcd.clock import now_s
from weldr.etcd.follow import Snapshot
from weldr.model.events import KeyValue
from weldr.model.keys import KeySpace, Kind
from weldr.model.vips import Holder, Peer

KEY = secrets.token_bytes(32)
BEAT = Heartbeat({"web": 7}, ["c"])
ASK = PromiseQuestion(1, "web", 7, 3.0)


class NoHolds:
    """An instance that follows `web`."""

    def tokens_held(self) -> dict[str, int]:
        return {}

    def busy(self, vip: str) -> bool:
        return False

    def uses(self, vip: str, token: int) -> bool:
        return False

    def known(self, vip: str) -> bool:
        return vip == "web"


@pytest.fixture
def network() -> PeerNetwork:
    view = View(KeySpace("/weldr/"))
    view.secrets["peers"] = Secret(KEY.hex())
    view.peers["b"] = Peer(address="10.0.0.2:8688", boot="life-2")
    view.holders["web"] = Holder(
        instance="b",
        address="v",
        token=7,
        lease=1,
        state="held",
        since="",
        window_s=2.2,
        promise_s=3.0,
        host="b",
        peers=["a"],
    )
    return PeerNetwork("a", view, PromiseBook(now_s() - 100), NoHolds(), lambda: None)


def send(network: PeerNetwork, body: Body, key: bytes = KEY, **changes: Any) -> bytes:
    message = Message("b", "life-2", 1, network.boot, body)
    data = seal(key, msgspec.structs.replace(message, **changes))
    network.datagram_received(data, ("10.0.0.2", 8688))
    return data


def heard(network: PeerNetwork) -> bool:
    return network.hearing.heard_now() == ["b"]


def test_a_heartbeat_of_an_instance_that_exists_is_heard(network: PeerNetwork) -> None:
    send(network, BEAT)
    assert heard(network)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": bytes(32)},
        {"sender": "x"},
        {"boot": "life-1"},
        {"receiver_boot": "another life"},
    ],
    ids=["another key", "an unknown sender", "an earlier life", "another receiver"],
)
def test_what_does_not_fit_is_not_heard(network: PeerNetwork, changes: dict[str, Any]) -> None:
    send(network, BEAT, **changes)
    assert not heard(network)


def test_what_was_recorded_is_worth_nothing_when_it_is_sent_again(network: PeerNetwork) -> None:
    recorded = send(network, BEAT, sequence=5)
    for _ in range(10):
        network.hearing.take_turn({"b"})
    assert not heard(network)
    network.datagram_received(recorded, ("10.0.0.2", 8688))
    send(network, BEAT, sequence=4)
    assert not heard(network)
    send(network, BEAT, sequence=6)
    assert heard(network)


def test_a_recorded_question_moves_no_promise(network: PeerNetwork) -> None:
    recorded = send(network, ASK)
    until_s = network._book.until_s("web")
    assert until_s > now_s() + 2.9
    network.datagram_received(recorded, ("10.0.0.2", 8688))
    assert network._book.until_s("web") == until_s


def test_nothing_counts_without_a_key_in_etcd(network: PeerNetwork) -> None:
    network._view.secrets.clear()
    send(network, BEAT)
    assert not heard(network)


@pytest.mark.parametrize("secret", ["", "00", "not hexadecimal"])
def test_a_key_that_is_none_or_too_short_seals_nothing(network: PeerNetwork, secret: str) -> None:
    network._view.secrets["peers"] = Secret(secret)
    send(network, BEAT, key=bytes.fromhex(secret) if secret in ("", "00") else KEY)
    assert not heard(network)


def test_what_is_too_long_is_dropped_before_anything_is_computed(network: PeerNetwork) -> None:
    names = [f"{number:0100}" for number in range(200)]
    data = send(network, Heartbeat({}, names))
    assert len(data) > MAX_DATAGRAM_BYTES
    assert not heard(network)


def test_no_promise_is_given_for_longer_than_a_minute_nor_for_an_unknown_virtual_ip(
    network: PeerNetwork,
) -> None:
    send(network, PromiseQuestion(1, "web", 7, 3600.0))
    send(network, PromiseQuestion(2, "other", 7, 3.0), sequence=2)
    assert network._book.until_s("web") == network._book.until_s("other") == 0.0


def test_what_is_kept_of_instances_and_virtual_ips_is_bounded(network: PeerNetwork) -> None:
    for number in range(1500):
        network._view.peers = {f"b{number}": Peer(address="10.0.0.2:8688", boot="life-2")}
        send(network, BEAT, sender=f"b{number}")
        network.hearing.take_turn(set(network._view.peers))
        network.forget_all_but({"web"})
    network.ask_for_refusal("web", 7, ["b"])
    network.forget_all_but(set())
    assert len(network._last_sequences) == 1024
    assert network._refusals == {}
    assert network.hearing.heard_now() == ["b1499"]


def test_what_was_recorded_before_an_instance_lost_its_key_is_worth_nothing_when_it_is_back(
    network: PeerNetwork,
) -> None:
    recorded, peer = send(network, BEAT), network._view.peers.pop("b")
    network.hearing.take_turn(set())
    network.forget_all_but({"web"})
    network._view.peers["b"] = peer
    network.datagram_received(recorded, ("10.0.0.2", 8688))
    assert not heard(network)


async def test_an_address_that_is_none_costs_no_other_peer_its_heartbeats(network: PeerNetwork) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    class Peers(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            heard.put_nowait(data)

    there, _ = await asyncio.get_running_loop().create_datagram_endpoint(Peers, ("127.0.0.1", 0))
    bad = [
        "10.0.0.2:99999",
        "10.0.0.2:0",
        "10.0.0.2:x",
        "a" * 70 + ".example:1",
        "host.example:1",
        "",
        "[::1:1",
    ]
    network._view.peers = {str(number): Peer(address=text, boot="x") for number, text in enumerate(bad)}
    address = "127.0.0.1:{}".format(there.get_extra_info("sockname")[1])
    network._view.peers["z"] = Peer(address=address, boot="life-1")
    await network.open([("127.0.0.1", 9)])
    try:
        for _ in range(2):
            message = unseal(KEY, await asyncio.wait_for(heard.get(), 10))
            assert message is not None
            assert isinstance(message.body, Heartbeat)
    finally:
        await network.close()
        there.close()


def test_a_holder_that_etcd_no_longer_hears_is_answered_as_long_as_a_record_names_it(
    network: PeerNetwork,
) -> None:
    view, keys = network._view, network._view.keys
    record = view.holders["web"]

    def snapshot(revision: int, holder: Holder, *instances: str) -> None:
        values = {
            keys.key(Kind.INSTANCE, name): {"peer": {"address": "h:1", "boot": f"{name}1"}}
            for name in instances
        }
        values[keys.key(Kind.HOLDER, "web")] = msgspec.to_builtins(holder)
        values[keys.key(Kind.SECRET, "peers")] = {"key": KEY.hex()}
        pairs = [KeyValue(key, msgspec.json.encode(value), revision, revision) for key, value in values.items()]
        view.fold([Snapshot(revision, tuple(pairs), "audit")], now_s())

    view.peers.clear()
    snapshot(2, record, "a", "b", "c")
    snapshot(3, record, "a")
    assert set(view.peers) == {"a"}
    send(network, ASK, boot="b1")
    assert network._book.until_s("web") > now_s() + 2.9, "its promise is given"
    send(network, BEAT, sender="c", boot="c1", sequence=1)
    assert not network.hearing.heard_now(), "whom no record names is no longer heard"
    send(network, BEAT, boot="b0", sequence=2)
    assert not network.hearing.heard_now(), "nor is another life"
    snapshot(4, msgspec.structs.replace(record, instance="a", token=9, peers=[]), "a")
    send(network, BEAT, boot="b1", sequence=3)
    assert not network.hearing.heard_now(), "another one holds it now"


def test_a_secret_is_not_in_what_is_printed() -> None:
    assert KEY.hex() not in repr(Secret(KEY.hex()))
