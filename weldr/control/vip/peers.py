"""Talks to the other instances directly, over UDP: heartbeats, questions, answers.

Whom there is to talk to, and in which life, is known from `instances/`, also for a while after an instance's
key went (`View.departed`). What does not come from one of those, or is not sealed with the key from etcd, is
dropped without a word. Nothing here waits: questions are repeated by whoever has them, and an answer that does
not come is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import logging
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from weldr.control.own_address import own_address
from weldr.control.vip.hearing import TURN_S, Hearing
from weldr.control.vip.messages import (
    MAX_BOUND_S,
    MAX_DATAGRAM_BYTES,
    Body,
    BoundAnswer,
    BoundQuestion,
    Heartbeat,
    Message,
    PromiseAnswer,
    PromiseQuestion,
    RefusalAnswer,
    RefusalQuestion,
    seal,
    unseal,
)
from weldr.control.vip.promises import PromiseBook, Round
from weldr.control.vip.rules import released_token
from weldr.control.vip.view import SECRET_NAME, View, WantedVip
from weldr.etcd.clock import now_s
from weldr.model.takeover import PeerLife
from weldr.model.vip_timing import DRIFT, LEAST_TTL_S, wait_s
from weldr.model.vips import Peer, is_same_instance

logger = logging.getLogger(__name__)

PORT = 8688
_ANY_PORT = 9
_MAX_NAMES = 256
_MAX_REMEMBERED = 1024
_ANSWERED_S = 2.0
"""What is asked is answered by then, or not at all."""
_SKIPPED = 1 << 32


class Holds(Protocol):
    """What the virtual IPs of this instance say of themselves when they are asked."""

    def tokens_held(self) -> dict[str, int]:
        """By virtual IP."""

    def busy(self, vip: str) -> bool:
        """Whether this instance claims or holds it, by whatever key."""

    def held_until_s(self, vip: str, *, but: int) -> float:
        """Until when its address may be here by any token but that; a time in the past if it is not."""

    def uses(self, vip: str, token: int) -> bool:
        """Whether it holds by this token, or may yet do so."""

    def known(self, vip: str) -> bool:
        """Whether there is such a virtual IP."""


class PeerNetwork(asyncio.DatagramProtocol):
    """This instance's socket."""

    def __init__(
        self, me: str, machine: str, view: View, book: PromiseBook, holds: Holds, on_turn: Callable[[], None]
    ) -> None:
        """`on_turn` is called for every turn of `Hearing`."""
        self.boot = secrets.token_hex(8)
        self.hearing = Hearing()
        self.address = ""
        """Where others reach us; empty while the socket is not open."""
        self._me = me
        self._machine = machine
        self._view = view
        self._book = book
        self._holds = holds
        self._on_turn = on_turn
        self._sequence = itertools.count(1)
        self._last_sequences: dict[str, tuple[str, int]] = {}
        self._rounds: dict[int, tuple[Round, Callable[[Round], None]]] = {}
        self._numbers = itertools.count(secrets.randbits(48))
        self._refusals: dict[tuple[str, int], set[str]] = {}
        self._inquiries: dict[int, tuple[float, Callable[[str, float], None]]] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._beating: asyncio.Task[None] | None = None
        self._muted = False

    # --- life

    async def open(self, towards: Iterable[tuple[str, int]]) -> None:
        """Open the socket. `towards` are addresses that the others can reach, too, the best first: we are known
        by the address that we reach them from.

        Raises `OSError`.
        """
        await self._bind(await own_address(towards))

    async def follow_address(self, towards: Iterable[tuple[str, int]]) -> None:
        """Open the socket anew if the address that we are known by has left this host, or is one that only this
        host can reach, and there is a better one."""
        own, before = self.address.rpartition(":")[0].strip("[]"), self._transport
        if not _is_loopback(own) and _is_here(own):
            return
        with contextlib.suppress(OSError):
            better = await own_address(towards)
            if better == own or _is_loopback(better):
                return
            await self._bind(better)
            if before is not None:
                before.close()
            logger.info("other instances reach this one by another address", extra={"address": self.address})

    async def _bind(self, own: str) -> None:
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        loop = asyncio.get_running_loop()
        for port in (PORT, 0):
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: self, local_addr=(own, port), family=family
                )
                break
            except OSError:
                if port == 0:
                    raise
        self._transport = transport
        port = transport.get_extra_info("sockname")[1]
        self.address = f"[{own}]:{port}" if ":" in own else f"{own}:{port}"
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat(), name="vip-heartbeats")

    async def adopt(self, sock: socket.socket, life: PeerLife | None) -> None:
        """Take the place of another manager of this instance: its socket, and, if it has stopped in order, its
        life in the eyes of the others."""
        own, port = sock.getsockname()[:2]
        if life is not None:
            self.boot = life.boot
            self._sequence = itertools.count(life.sequence)
            self._last_sequences = dict(life.last_sequences)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=sock)
        self.address = f"[{own}]:{port}" if ":" in own else f"{own}:{port}"
        self._beating = asyncio.create_task(self._beat(), name="vip-heartbeats")

    def mute(self) -> None:
        """Say and hear nothing before `unmute`: what is said now, nobody could stand by."""
        self._muted = True

    def unmute(self) -> None:
        """Go on."""
        self._muted = False

    def skip_ahead(self) -> None:
        """Somebody else may have spoken in this life: what is said from now on has to be newer than that."""
        self._sequence = itertools.count(next(self._sequence) + _SKIPPED)

    def life(self) -> PeerLife | None:
        """For whoever takes our place; `None` while the socket is not open. It is mute."""
        if not self.address:
            return None
        return PeerLife(
            address=self.address,
            boot=self.boot,
            sequence=next(self._sequence),
            last_sequences=self._last_sequences,
        )

    @property
    def name_is_taken(self) -> bool:
        """Whether another life has this instance's name, by etcd's word. Others then ask that one for promises,
        and it may be another instance, given the same name by mistake."""
        own = self._view.peers.get(self._me)
        return own is not None and own.boot != self.boot

    @property
    def descriptor(self) -> int | None:
        """Of the socket, if it is open."""
        if self._transport is None or not self.address:
            return None
        return int(self._transport.get_extra_info("socket").fileno())

    async def close(self) -> None:
        """Say and hear no more."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None
        if self._transport is not None:
            self._transport.close()
        self.address = ""

    async def _beat(self) -> None:
        key = self._key()
        for turn in itertools.count():
            if key is None or key != self._key():
                # Not all have the new key at the same instant: who is not heard meanwhile is not silent.
                key = self._key()
                self.hearing.forget()
            self.hearing.take_turn(set(self._view.peers))
            if turn % 2 == 0:
                beat = Heartbeat(self._holds.tokens_held(), self.hearing.holders_heard_now()[:_MAX_NAMES])
                for name in list(self._view.peers)[:_MAX_NAMES]:
                    self._send(name, beat)
            self._on_turn()
            await asyncio.sleep(TURN_S)

    # --- questions

    def ask_for_promises(
        self,
        vip: str,
        token: int,
        duration_s: float,
        peers: frozenset[str],
        on_success: Callable[[Round], None],
    ) -> Round:
        """Ask all of them not to claim; `on_success` is called once, if and when all have promised."""
        for number in [number for number, (asked, _) in self._rounds.items() if _is_old(asked.sent_s)]:
            del self._rounds[number]
        number = next(self._numbers)
        asked = Round(number, now_s(), token, set(peers))
        self._rounds[number] = (asked, on_success)
        for name in peers:
            self._send(name, PromiseQuestion(number, vip, token, duration_s))
        return asked

    def ask_for_refusal(self, vip: str, token: int, peers: Iterable[str]) -> None:
        """Ask them to refuse a holder; see `refused_by`."""
        for key in [key for key in self._refusals if key[0] == vip and key[1] != token]:
            del self._refusals[key]
        self._refusals.setdefault((vip, token), set())
        for name in peers:
            self._send(name, RefusalQuestion(next(self._numbers), vip, token))

    def refused_by(self, vip: str, token: int) -> set[str]:
        """Who has refused."""
        return self._refusals.get((vip, token), set())

    def ask_until_when(
        self, vip: str, token: int, instances: Iterable[str], on_answer: Callable[[str, float], None]
    ) -> None:
        """Ask these until when they are bound not to claim, or hold it by another token; `on_answer` is told
        who is, and until when, 0 if it is not."""
        for number in [number for number, (sent_s, _) in self._inquiries.items() if _is_old(sent_s)]:
            del self._inquiries[number]
        number = next(self._numbers)
        self._inquiries[number] = (now_s(), on_answer)
        for name in instances:
            self._send(name, BoundQuestion(number, vip, token))

    def forget_refusals(self) -> None:
        """etcd may be another one: who is refused by its token may be somebody else by now."""
        self._refusals.clear()

    def forget_all_but(self, vips: set[str]) -> None:
        """Virtual IPs and instances that no longer exist take no room."""
        for key in [key for key in self._refusals if key[0] not in vips]:
            del self._refusals[key]
        # An instance that loses its key in etcd comes back in the same life: what was recorded must not count.
        gone = [name for name in self._last_sequences if self._view.peer(name) is None]
        for name in gone[: max(0, len(self._last_sequences) - _MAX_REMEMBERED)]:
            del self._last_sequences[name]

    # --- datagrams

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Called by asyncio."""
        key = self._key()
        if key is None or self._muted or len(data) > MAX_DATAGRAM_BYTES:
            return
        message = unseal(key, data)
        if message is None or not self._is_new(message):
            return
        self._take(message.sender, message.body)

    def error_received(self, exc: Exception) -> None:
        """Called by asyncio: a peer is not there. Its silence says the same."""

    def _is_new(self, message: Message) -> bool:
        peer = self._view.peer(message.sender)
        if peer is None or peer.boot != message.boot or message.receiver_boot != self.boot:
            return False
        boot, sequence = self._last_sequences.get(message.sender, ("", 0))
        if boot == message.boot and message.sequence <= sequence:
            return False
        self._last_sequences[message.sender] = (message.boot, message.sequence)
        return True

    def _take(self, sender: str, body: Body) -> None:
        match body:
            case Heartbeat():
                self.hearing.note(sender, body)
            case PromiseQuestion(number, vip, token, duration_s):
                refusal = self._promise(vip, token, duration_s)
                self._send(sender, PromiseAnswer(number, vip, refusal or ""))
            case PromiseAnswer(number, _, refusal):
                asked = self._rounds.get(number)
                if asked is not None and asked[0].note(sender, refusal):
                    del self._rounds[number]
                    asked[1](asked[0])
            case RefusalQuestion(number, vip, token):
                self._send(sender, RefusalAnswer(number, vip, token, self._refuse(vip, token)))
            case RefusalAnswer(_, vip, token, refused):
                if refused and (vip, token) in self._refusals:
                    self._refusals[vip, token].add(sender)
            case BoundQuestion(number, vip, token):
                self._send(sender, BoundAnswer(number, vip, self._bound_for_s(vip, token)))
            case BoundAnswer(number, _, left_s):
                if number in self._inquiries:
                    self._inquiries[number][1](sender, now_s() + left_s / (1 - DRIFT) if left_s else 0.0)

    def _promise(self, vip: str, token: int, duration_s: float) -> str | None:
        if not self._holds.known(vip):
            return "it knows no such virtual IP"
        if self.name_is_taken:
            return "another instance has its name"
        record = self._view.holders.get(vip)
        if record is not None:
            self._book.learn(vip, record.token)
        return self._book.promise(
            vip,
            token,
            duration_s,
            now_s(),
            busy=self._holds.busy(vip),
            claimed=self._view.claimed_since_restored(vip),
        )

    def _refuse(self, vip: str, token: int) -> bool:
        record = self._view.holders.get(vip)
        if record is None or record.token != token:
            # How long a promise to it lasts is in its record.
            return False
        # Whoever has our name may have promised what we would refuse.
        if self.name_is_taken or not is_same_instance(record, self._me, self._machine):
            return False
        if self._holds.uses(vip, token):
            return False
        return self._book.refuse(vip, token, record.promise_s, now_s()) == 0.0

    def _bound_for_s(self, vip: str, token: int) -> float:
        record, wanted = self._view.holders.get(vip), self._view.vips.get(vip)
        promise_s = max(
            record.promise_s if record is not None else LEAST_TTL_S,
            wanted.vip.timing().promise_s if wanted is not None else LEAST_TTL_S,
        )
        bound_s = max(
            self._book.until_s(vip, released=released_token(record)),
            self._holds.held_until_s(vip, but=token),
            self._view.restored_s + wait_s(promise_s),
        )
        return min(max(0.0, bound_s - now_s()), MAX_BOUND_S)

    def _send(self, name: str, body: Body) -> None:
        key, peer = self._key(), self._view.peer(name)
        if key is None or peer is None or self._transport is None or self._muted or name == self._me:
            return
        place = _place(peer.address)
        if place is None:
            return
        message = Message(self._me, self.boot, next(self._sequence), peer.boot, body)
        with contextlib.suppress(OSError):
            self._transport.sendto(seal(key, message), place)

    def _key(self) -> bytes | None:
        secret = self._view.secrets.get(SECRET_NAME)
        return None if secret is None else secret.key_bytes()


def _is_old(sent_s: float) -> bool:
    return now_s() - sent_s > _ANSWERED_S


def towards(wanted: Iterable[WantedVip], peers: Iterable[Peer]) -> list[tuple[str, int]]:
    """What to reach the other instances by, the best first, and as far as can be the same everywhere: who is
    known by an IPv4 address cannot speak to who is known by an IPv6 one.

    They are on the network of the virtual IPs, or else those could not move to them. The way to one that is
    held on this very host leads nowhere, hence the address next to it.
    """
    places = [ipaddress.ip_address(place[0]) for peer in peers if (place := _place(peer.address)) is not None]
    virtual = [ipaddress.ip_address(each.vip.ip) for each in sorted(wanted, key=lambda each: each.created)]
    found = [near for ip in virtual for near in (ip, type(ip)(int(ip) ^ 1))] + places
    spoken = {ip.version for ip in places}
    found.sort(key=lambda ip: bool(spoken) and ip.version not in spoken)
    return [(str(ip), _ANY_PORT) for ip in found]


def _is_loopback(own: str) -> bool:
    return ipaddress.ip_address(own.partition("%")[0]).is_loopback


def _is_here(own: str) -> bool:
    """Whether this host has that address."""
    with socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((own, 0))
        except OSError:
            return False
    return True


def _place(address: str) -> tuple[str, int] | None:
    """Where that is, `None` if it is no place. A name would have to be looked up, and a port that is none would
    close the socket."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        return None
    # Behind a `%`, anything goes for an address.
    return (host, number) if 0 < number < 1 << 16 and host.isprintable() else None
