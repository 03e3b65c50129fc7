"""All virtual IPs of an instance: one `VirtualIp` for each that etcd wants, and what they share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weldr.control.vip.answers import Answers
from weldr.control.vip.checks import Checks
from weldr.control.vip.context import Context
from weldr.control.vip.driver import VirtualIp
from weldr.control.vip.identity import this_host, this_machine
from weldr.control.vip.machine import State
from weldr.control.vip.means import Means
from weldr.control.vip.peers import PeerNetwork, towards
from weldr.control.vip.promises import PromiseBook
from weldr.control.vip.shared_secret import SharedSecret
from weldr.control.vip.tidy import HostWatch
from weldr.control.vip.view import View
from weldr.control.vip.wanted import chosen
from weldr.etcd.client import EtcdClient
from weldr.etcd.clock import now_s
from weldr.etcd.errors import EtcdError
from weldr.etcd.follow import Change
from weldr.model.keys import KeySpace, Kind
from weldr.model.takeover import Candidacy, VipsState
from weldr.model.vip_timing import SILENCE_S
from weldr.model.vips import Peer, Vip, VipState

if TYPE_CHECKING:
    from weldr.control.announce.rtnetlink import HostChanges

logger = logging.getLogger(__name__)

_TIDY_S = 1.0
_SETTLING_LOOKS, _SETTLING_PAUSE_S = 100, 0.01
_PARK_S = 0.5
"""An upgrade waits no longer for what is under way: meanwhile no address is renewed."""
_TIDY_AFTER_S = 3.0
"""After another manager went: what it had put in place, and is not ours, has lapsed by then."""


class VirtualIps:
    """Fed with what the watch brings; opens no socket and sets no address while etcd wants no virtual IP."""

    def __init__(
        self,
        client: EtcdClient,
        keys: KeySpace,
        me: str,
        listen: Sequence[str],
        commands: Path | None,
        not_ready: Callable[[], str | None],
        on_change: Callable[[], None],
        zone: str = "",
    ) -> None:
        """`listen` are the addresses that workers accept on; `commands` is the directory of programs that
        values in etcd may name; `on_change` is called when what `describe` and `peer` give has changed."""
        self._client = client
        self._keys = keys
        self._not_ready = not_ready
        self._on_change = on_change
        self._host = HostWatch(self._look)
        self._means = Means(self._host, commands, listen)
        self._checks = Checks(self._means.program)
        self._view = View(keys)
        self._began_s = began_s = now_s()
        """Of this process, whatever it may have forgotten since."""
        self._book = PromiseBook(began_s)
        machine = this_machine()
        self._running: dict[str, tuple[Vip, VirtualIp]] = {}
        self.answers = Answers(self._running, self._view)
        self._peers = PeerNetwork(me, machine, self._view, self._book, self.answers, self._on_turn)
        self._secret = SharedSecret(client, keys, self._view)
        self._context = Context(
            me=me,
            host=this_host(),
            machine=machine,
            boot_s=began_s,
            client=client,
            keys=keys,
            view=self._view,
            book=self._book,
            peers=self._peers,
            useless=self._useless,
            on_change=on_change,
            zone=zone,
        )
        self._wanted: dict[str, Vip] = {}
        self._left_out: dict[str, str] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        """A command may take long to give an address up; meanwhile the others go on."""
        self._changed = asyncio.Event()
        self._told = ""
        self._one_at_a_time = asyncio.Lock()
        """Held while it is decided which ones begin and end, and as long as all are frozen."""
        self._tidy_from_s = 0.0

    # --- for the manager

    def take(self, changes: Sequence[Change]) -> None:
        """What the watch brought."""
        restored_s, was_taken = self._view.restored_s, self._peers.name_is_taken
        touched = self._view.fold(changes, now_s())
        if self._view.restored_s != restored_s:
            self._book.start_over()
            self._peers.forget_refusals()
            for _, running in self._running.values():
                running.start_over()
        if was_taken or self._peers.name_is_taken:
            self._forget_life()
        if not touched:
            return
        self._wanted, self._left_out = chosen(self._view.vips)
        for name, (_, running) in self._running.items():
            self._context.note_queue(name, self._view.queue(name), now_s())
            if name in touched or "" in touched:
                running.wake()
        if any(self._wants(name) != self._has(name) for name in {*self._wanted, *self._running}):
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled. Whoever cancels calls `stop`."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TIDY_S):
                    await self._changed.wait()
            self._changed.clear()
            async with self._one_at_a_time:
                await self._bring_about()
                self._tidy()

    async def stop(self, reason: str) -> None:
        """Give all of them up, at once."""
        for name in self._running:
            self._begin_to_end(name, reason)
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
        self._tidy()
        await self._peers.close()
        self._checks.close()
        self._host.close()

    # --- for an upgrade

    def hints(self) -> list[Candidacy]:
        """Our places in the queues."""
        found = (running.candidacy() for _, running in self._running.values())
        return [candidacy for candidacy in found if candidacy is not None]

    @property
    def peer_descriptor(self) -> int | None:
        """Of the socket to the other instances, if it is open."""
        return self._peers.descriptor

    async def freeze(self) -> VipsState:
        """Stop acting, and leave all as it is; what another manager needs to go on. `thaw` takes it back.

        Addresses that are held lapse soon, unless somebody goes on with them.

        Raises `TimeoutError`; then nothing has changed.
        """
        async with asyncio.timeout(_PARK_S):
            await self._one_at_a_time.acquire()
            try:
                if self._ending:
                    await asyncio.wait(self._ending.values())
                # Another manager would not wait for a command before it runs the opposite one.
                await asyncio.gather(*(running.holding.released() for _, running in self._running.values()))
                await asyncio.gather(*(running.park() for _, running in self._running.values()))
                # Not before: others would take us for silent.
                self._peers.mute()
            except BaseException:
                self.thaw()
                raise
        handed = [(running, running.hand_on()) for _, running in self._running.values()]
        # What is held between two candidacies, or may have been left behind, stays in place for a moment, and
        # the new manager does not know by which token.
        now = now_s()
        unknown = any(
            (each is None and running.holding.hold is not None) or now < running.holding.left_behind_until_s
            for running, each in handed
        )
        restored_s = self._view.restored_s
        return VipsState(
            vips=[each for _, each in handed if each is not None],
            words=self._book.words(),
            boot_s=now if unknown else self._context.boot_s,
            restored_s=restored_s if math.isfinite(restored_s) else None,
            restored_revision=self._view.restored_revision,
            life=self._peers.life(),
        )

    def thaw(self) -> None:
        """Go on as if `freeze` had not been."""
        self._peers.unmute()
        for _, running in self._running.values():
            running.unpark()
        self._one_at_a_time.release()

    def take_back(self) -> None:
        """`thaw`, though another manager may have acted meanwhile, and was ended: what it has promised is not
        known here, as after a restart."""
        self._forget_life()
        self._peers.skip_ahead()
        for _, running in self._running.values():
            running.take_back()
        self.thaw()

    def _forget_life(self) -> None:
        """Who has had our name until now may have promised what is not known here, as after a restart."""
        self._context.boot_s = self._book.began_s = now_s()

    async def let_go(self) -> None:
        """After `freeze`: another manager goes on with everything. End, and touch nothing."""
        # First: what comes in at the socket, either of the two reads.
        await self._peers.close()
        for _, running in self._running.values():
            await running.let_go()
        self._running.clear()
        self._checks.close()
        self._host.close()

    def prepare(self) -> None:
        """To be called before another manager of this instance is frozen: from then until `adopt` others hear
        nothing of us, and soon take us for silent."""
        if any(vip.announce == "netlink" for vip in self._wanted.values()):
            self._host.load()

    async def adopt(self, state: VipsState, sock: socket.socket | None) -> None:
        """Take the place of another manager of this instance, which is frozen. Before `run`."""
        self._context.boot_s = state.boot_s
        self._book.adopt(state.words, state.boot_s)
        restored_s = -math.inf if state.restored_s is None else state.restored_s
        if restored_s > self._view.restored_s:
            self._view.restored_s, self._view.restored_revision = restored_s, state.restored_revision
        elif restored_s < self._began_s < self._view.restored_s:
            # The old manager did not know it yet.
            self._book.start_over()
        if state.vips:
            self._host.open()
        for handed in state.vips:
            running = self._make(handed.candidacy.vip, handed.candidacy.value)
            running.adopt(handed)
        self._tidy_from_s = now_s() + _TIDY_AFTER_S
        if sock is not None:
            await self._peers.adopt(sock, state.life)
        self._start_all()
        began_s = now_s()
        for _ in range(_SETTLING_LOOKS):
            # Nothing else may be in their way: they have a second.
            if all(running.is_settled(began_s) for _, running in self._running.values()):
                return
            await asyncio.sleep(_SETTLING_PAUSE_S)

    async def inherit(self, candidacies: Sequence[Candidacy], sock: socket.socket | None) -> None:
        """Take the place of another manager of this instance, which has died. Before `run`.

        What it had promised is not known: this is another life. But its places in the queues are ours.
        """
        self._forget_life()
        if candidacies:
            self._host.open()
        for candidacy in candidacies:
            self._make(candidacy.vip, candidacy.value).inherit(candidacy)
        # An address that is in place is claimed again before it lapses.
        self._tidy_from_s = now_s() + _TIDY_AFTER_S
        if sock is not None:
            await self._peers.adopt(sock, None)
        self._start_all()

    def _start_all(self) -> None:
        for name, (vip, running) in self._running.items():
            if vip.check is not None:
                # Who stands has passed it, or is the only one.
                self._checks.start(name, vip.check, vip.ip, passed=True)
            running.start()

    # --- for those who look on

    def describe(self) -> dict[str, VipState]:
        """The state of each."""
        return {name: running.describe() for name, (_, running) in self._running.items()}

    def holds(self) -> dict[str, tuple[State, float | None]]:
        """The state of each, and for how long it is held without another confirmation; `None` if it is not."""
        return {
            name: (running.state, None if (hold := running.holding.hold) is None else hold.expires_s - now_s())
            for name, (_, running) in self._running.items()
        }

    def transitions(self, name: str) -> dict[str, int]:
        """How often this instance has got and lost it."""
        return {word: self._context.transitions[name, word] for word in ("got", "lost")}

    @property
    def peer(self) -> Peer | None:
        """Where other instances reach us."""
        if not self._peers.address:
            return None
        return Peer(
            address=self._peers.address,
            boot=self._peers.boot,
            zone=self._context.zone,
            machine=self._context.machine,
        )

    def problems(self) -> list[str]:
        """Why virtual IPs cannot be held here, a line each."""
        reasons = self._left_out | {
            name: reason
            for name, (vip, running) in self._running.items()
            if (reason := running.holding.problem or running.holding.failure or self._means.deaf(vip))
        }
        return [
            f"{self._keys.key(Kind.VIP, name).decode('utf-8', 'backslashreplace')}: {reason}"
            for name, reason in sorted(reasons.items())
        ]

    # --- inside

    def _wants(self, name: str) -> Vip | None:
        return self._wanted.get(name)

    def _has(self, name: str) -> Vip | None:
        running = self._running.get(name)
        return running[0] if running is not None else None

    async def _bring_about(self) -> None:
        """Have exactly those running that etcd wants, as it wants them."""
        if not self._wanted and not self._running:
            return
        for name, (has, _) in self._running.items():
            wants = self._wants(name)
            if has != wants:
                gone = self._left_out.get(name, "its key in etcd is gone")
                self._begin_to_end(name, gone if wants is None else "its key in etcd has changed")
        if self._wanted and not await self._open():
            return
        # An address is not taken up here before it has been given up here, by whatever name.
        leaving = {self._running[name][0].ip for name in self._ending}
        for name, wants in self._wanted.items():
            if name not in self._running and wants.ip not in leaving:
                self._begin(name, wants)
        # An address may be held under a key that is gone, and is then to be asked for.
        spoken_of = {*self._view.vips, *self._view.holders}
        self._book.forget_all_but(spoken_of, now_s())
        self._peers.forget_all_but(spoken_of)
        self._on_change()

    def _make(self, name: str, vip: Vip) -> VirtualIp:
        virtual_ip = VirtualIp(name, vip, self._context, self._means.announcer(name, vip))
        self._running[name] = (vip, virtual_ip)
        return virtual_ip

    def _begin(self, name: str, vip: Vip) -> None:
        virtual_ip = self._make(name, vip)
        if vip.check is not None:
            self._checks.start(name, vip.check, vip.ip)
        virtual_ip.start()

    def _begin_to_end(self, name: str, reason: str) -> None:
        if name not in self._ending:
            self._ending[name] = asyncio.create_task(self._end(name, reason), name=f"vip-end-{name}")

    async def _end(self, name: str, reason: str) -> None:
        self._checks.stop(name)
        try:
            await self._running[name][1].stop(reason)
        finally:
            del self._running[name], self._ending[name]
            self._on_change()
            if self._wants(name) is None:
                self._context.forget_transitions(name)
            self._changed.set()

    async def _open(self) -> bool:
        """What only virtual IPs need; whether it is there."""
        try:
            self._host.open()
            await self._secret.see_to_it()
            others = [peer for name, peer in self._view.peers.items() if name != self._context.me]
            virtual = towards(self._view.vips.values(), others)
            if self._peers.address:
                await self._peers.follow_address(virtual)
            else:
                endpoints = self._client.config.endpoints
                await self._peers.open([*virtual, *((each.host, each.port) for each in endpoints)])
        except EtcdError:
            return False
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != self._told:
                self._told = reason
                logger.error(
                    "virtual IPs have to wait: a socket for them cannot be opened", extra={"reason": reason}
                )
            return False
        self._told = ""
        return True

    def _useless(self, vip: Vip) -> str | None:
        reason = self._not_ready() or self._means.deaf(vip)
        if reason is not None:
            return reason
        name = next((name for name, (wanted, _) in self._running.items() if wanted is vip), "")
        return self._checks.failure(name) if vip.check is not None else None

    def _on_turn(self) -> None:
        for name, (_, running) in self._running.items():
            record = self._view.holders.get(name)
            if running.state is State.FOLLOWING and record is not None and record.state == "held":
                hearing = self._peers.hearing
                if hearing.silence_of_holder_s(record.instance, name, record.token) >= SILENCE_S:
                    running.hear_silence()

    def _look(self, changes: HostChanges) -> None:
        for wanted, running in self._running.values():
            running.holding.forget_known()
            removed = wanted.interface_address in changes.removed
            if removed or changes.links:
                running.holding.look(removed=removed)

    def _tidy(self) -> None:
        if now_s() < self._tidy_from_s:
            return
        held = {wanted.interface_address for wanted, running in self._running.values() if running.holding.hold}
        own = self._peers.address.rpartition(":")[0]
        hosts = [peer.address.rpartition(":")[0] for peer in self._view.peers.values()]
        # Another instance on this host has addresses of its own, which look the same. They lapse by themselves.
        if not own or hosts.count(own) <= 1:
            self._host.remove_stale(held, self._view.addresses())
