"""What comes in at the UDP port counts only if an instance that exists said it now, and said it to us."""

from __future__ import annotations

import asyncio
import secrets
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from weldr.control.vip.messages import (
    MAX_DATAGRAM_BYTES,
    Body,
    Heartbeat,
    Message,
    PromiseQuestion,
    RefusalQuestion,
    seal,
    unseal,
)
from weldr.control.vip.peers import PeerNetwork
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.view import Secret, View
from weldr.etcd.clock import now_s
from weldr.etcd.follow import Snapshot
from weldr.model.events import Event, KeyValue, Revision
from weldr.model.keys import KeySpace, Kind
from weldr.model.vip_timing import SILENCE_S
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

    def held_until_s(self, vip: str, *, but: int) -> float:
        return float("-inf")

    def uses(self, vip: str, token: int) -> bool:
        return False

    def known(self, vip: str) -> bool:
        return vip == "web"


@pytest.fixture
def network() -> PeerNetwork:
    view = View(KeySpace("/weldr/"))
    view.secrets["peers"] = Secret(KEY.hex())
    view.peers["b"] = Peer(address="10.0.0.2:8688", boot="life-2", machine="B")
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
        machines={"a": "A", "b": "B"},
    )
    return PeerNetwork("a", "A", view, PromiseBook(now_s() - 100), NoHolds(), lambda: None)


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


def test_who_shares_its_name_with_another_instance_promises_nothing(network: PeerNetwork) -> None:
    """Its name may be that of a peer which the others ask, and which claims."""
    network._view.peers["a"] = Peer(address="10.0.0.9:8688", boot="life-9")
    send(network, ASK)
    assert network._book.until_s("web") == 0.0
    network._view.peers["a"] = Peer(address="10.0.0.1:8688", boot=network.boot)
    send(network, ASK, sequence=2)
    assert network._book.until_s("web") > now_s() + 2.9


def test_who_shares_its_name_with_another_instance_refuses_nobody(network: PeerNetwork) -> None:
    """The other one may have promised what this one would refuse."""
    network._view.peers["a"] = Peer(address="10.0.0.9:8688", boot="life-9")
    send(network, RefusalQuestion(1, "web", 7))
    assert network._book._word("web").refused_token == 0
    network._view.peers["a"] = Peer(address="10.0.0.1:8688", boot=network.boot)
    send(network, RefusalQuestion(2, "web", 7), sequence=2)
    assert network._book._word("web").refused_token == 7


@pytest.mark.parametrize("instance", ["a", "b"], ids=["the holder's", "a peer's"])
def test_a_namesake_on_another_machine_refuses_nobody(network: PeerNetwork, instance: str) -> None:
    """The holder, or the peer, is another instance, and may have promised."""
    record = msgspec.structs.replace(network._view.holders["web"], instance=instance)
    for sequence, (machine, refused) in enumerate((("X", 0), ("A", 7)), 1):
        network._view.holders["web"] = msgspec.structs.replace(record, machines={"a": machine, "b": "B"})
        send(network, RefusalQuestion(sequence, "web", 7), sequence=sequence)
        assert network._book._word("web").refused_token == refused


def test_a_holder_of_before_etcd_was_restored_gets_no_promise_once_another_has_claimed(
    network: PeerNetwork,
) -> None:
    view, book = network._view, network._book
    keys, held = view.keys, view.holders["web"]
    secret = KeyValue(keys.key(Kind.SECRET, "peers"), msgspec.json.encode({"key": KEY.hex()}), 1, 1)
    peer = {"peer": {"address": "10.0.0.2:8688", "boot": "life-2"}}
    instance = KeyValue(keys.key(Kind.INSTANCE, "b"), msgspec.json.encode(peer), 1, 1)
    book.learn("web", 7)

    def record(token: int, revision: int) -> KeyValue:
        value = msgspec.json.encode(msgspec.structs.replace(held, token=token))
        return KeyValue(keys.key(Kind.HOLDER, "web"), value, 1, revision)

    def promised(token: int, sequence: int) -> bool:
        book._words["web"].until_s = 0.0
        send(network, msgspec.structs.replace(ASK, token=token), sequence=sequence)
        return book.until_s("web") > 0.0

    view.fold([Snapshot(5, (secret, instance, record(3, 4)), "restored")], now_s())
    book.start_over()
    assert promised(7, 1), "what etcd says was there before"
    view.fold([Revision(6, (Event(record(6, 6)),))], now_s())
    assert not promised(7, 2)
    assert promised(6, 3)
    assert promised(8, 4), "it has claimed since then"


def test_nothing_counts_without_a_key_in_etcd(network: PeerNetwork) -> None:
    network._view.secrets.clear()
    send(network, BEAT)
    assert not heard(network)


async def test_nobody_is_silent_while_the_key_is_replaced(network: PeerNetwork) -> None:
    turns: asyncio.Queue[float] = asyncio.Queue()

    def take_turn() -> None:
        turns.put_nowait(network.hearing.silence_of_holder_s("b", "web", 7))

    network._on_turn = take_turn
    silent = False
    beating = asyncio.create_task(network._beat())
    try:
        async with asyncio.timeout(20.0):
            await turns.get()
            send(network, BEAT)
            secret = network._view.secrets.pop("peers")
            for _ in range(10):
                silent |= await turns.get() >= SILENCE_S
            assert not silent
            network._view.secrets["peers"] = Secret(bytes(32).hex())
            for _ in range(10):
                silent |= await turns.get() >= SILENCE_S
            assert not silent, "the other one may have the old key yet"
            network._view.secrets["peers"] = secret
            await turns.get()
            send(network, BEAT, sequence=2)
            while not silent:
                silent = await turns.get() >= SILENCE_S
    finally:
        beating.cancel()


@pytest.mark.parametrize("secret", ["", "00", "not hexadecimal"])
def test_a_key_that_is_none_or_too_short_seals_nothing(network: PeerNetwork, secret: str) -> None:
    network._view.secrets["peers"] = Secret(secret)
    send(network, BEAT, key=bytes.fromhex(secret) if secret in ("", "00") else KEY)
    assert not heard(network)


@pytest.mark.parametrize("value", [b"garbage", b'{"key": "00"}', b'{"key": "not hexadecimal"}'])
def test_a_key_that_is_spoiled_leaves_the_last_one_in_force(network: PeerNetwork, value: bytes) -> None:
    view = network._view
    spoiled = KeyValue(b"/weldr/secrets/peers", value, 1, 2)
    view.fold([Revision(2, (Event(spoiled),))], now_s())
    assert view.secret_is_unusable
    send(network, BEAT)
    assert heard(network)
    view.fold([Revision(3, (Event(spoiled, deleted=True),))], now_s())
    assert not view.secret_is_unusable
    assert not view.secrets


def test_what_is_too_long_is_dropped_before_anything_is_computed(network: PeerNetwork) -> None:
    names = [f"{number:0200}" for number in range(200)]
    data = send(network, Heartbeat({}, names))
    assert len(data) > MAX_DATAGRAM_BYTES
    assert not heard(network)


async def test_a_heartbeat_of_many_long_names_among_many_instances_is_heard(
    network: PeerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {f"{number:0120}": number for number in range(64)}
    for number in range(230):
        name = f"proxy-{number:030}.example.com"
        network._view.peers[name] = Peer(address="10.0.0.3:8688", boot="life-3")
        network.hearing.note(name, Heartbeat({"db": 5} if number < 20 else {}, []))
    monkeypatch.setattr(NoHolds, "tokens_held", lambda self: held)
    sent: list[bytes] = []
    first = asyncio.Event()

    def send_to(data: bytes, place: object) -> None:
        sent.append(data)
        first.set()

    network._transport = SimpleNamespace(sendto=send_to)  # type: ignore[assignment]
    beating = asyncio.create_task(network._beat())
    await asyncio.wait_for(first.wait(), 20.0)
    beating.cancel()
    assert len(sent[0]) <= MAX_DATAGRAM_BYTES
    message = unseal(KEY, sent[0])
    assert message is not None
    assert isinstance(message.body, Heartbeat)
    assert message.body.holds == held
    assert len(message.body.hears) == 20


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
        "[fe80::1%a\0b]:1",
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
            keys.key(Kind.INSTANCE, name): {
                "peer": {"address": "h:1", "boot": network.boot if name == "a" else f"{name}1"}
            }
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
