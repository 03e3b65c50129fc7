"""One virtual IP on this instance: brings together the facts, has `machine.decide` decide, and does it.

*Turns* talk to etcd, one request after the other: stand, confirm, claim, release. Beside them `holding.py`
looks after the address while it is here. Messages and events wake either. What changes the state is
synchronous, so nothing sees it half changed; only turns wait, and look again at what may have changed
meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

import msgspec

from weldr.control.announce.announcer import Announcer
from weldr.control.vip.context import Context
from weldr.control.vip.holding import Holding
from weldr.control.vip.machine import Action, Decision, Facts, State, decide
from weldr.control.vip.rules import AskPeers, Claim, Claimant, Wait, may_claim, may_unseat
from weldr.control.vip.view import holder_of
from weldr.etcd.client import Compare, Put
from weldr.etcd.clock import now_s
from weldr.etcd.election import CandidacyLostError, Candidate, Confirmation, lease_is_gone, unseat
from weldr.etcd.errors import EtcdClosedError, EtcdError
from weldr.model.events import KeyValue
from weldr.model.keys import Kind
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, Vip, VipState

logger = logging.getLogger(__name__)


_RETRY_S = 0.1
_FAULT_S = 1.0
_CONFLICT_S = 10.0
_STOP_S = 2.0
_BELIEVE_S = 30.0
_MOVE_PATIENCE_S = 1.5


class VirtualIp:
    """Runs until `stop`. Each wish in etcd gets one of its own: a changed one is another virtual IP."""

    def __init__(self, name: str, vip: Vip, context: Context, announcer: Announcer) -> None:
        self.name = name
        self.vip = vip
        self.state = State.FOLLOWING
        self.busy = False
        """Whether a claim is under way: nothing may be promised to anybody else."""
        self._context = context
        self._timing = vip.timing()
        self.holding = Holding(name, vip, context, announcer, self._peers_to_ask, self._lost, self.wake)
        prefix = context.keys.of_kind(Kind.ELECTION, name)
        self._candidate = Candidate(context.client, prefix, context.me.encode(), vip.ttl_s)
        self._record_key = context.keys.key(Kind.HOLDER, name)
        self._vip_key = context.keys.key(Kind.VIP, name)
        self._record: Holder | None = None
        self._record_revision = 0
        self._unsure_peers: tuple[int, frozenset[str]] = (0, frozenset())
        self._first_gone_s: tuple[int, float] = (0, 0.0)
        self._unseated_token = 0
        self._doubt: tuple[int, float] = (0, 0.0)
        """The record's revision with our doubt, and when we knew that it was there."""
        self._believe_until_s = 0.0
        self._elsewhere_since_s: float | None = None
        self._reason = ""
        self._since = _wall_clock()
        self._unwanted = ""
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._probed = False

    # --- for the owner

    @property
    def token(self) -> int:
        """Of the present candidacy; 0 if it does not stand."""
        return self._candidate.token or 0

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._take_turns(), name=f"vip-{self.name}"),
            asyncio.create_task(self.holding.guard(), name=f"vip-guard-{self.name}"),
        ]

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    async def stop(self, reason: str) -> None:
        """Give the address up, tell etcd, and end."""
        self._unwanted = reason
        self._wake.set()
        turns = self._tasks[:1]
        await asyncio.wait(turns, timeout=_STOP_S)
        self.holding.take_down(reason, in_order=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(self.holding.left_behind_until_s - now_s())
        await self._candidate.close(timeout_s=_RETRY_S * 5)
        await self.holding.close()

    def describe(self) -> VipState:
        """For `instances/<instance>`."""
        return VipState(state=self.state, token=self.token, since=self._since, reason=self._reason)

    # --- turns

    async def _take_turns(self) -> None:
        while True:
            self._wake.clear()
            pause_s = _RETRY_S
            try:
                pause_s = await self._turn()
            except EtcdClosedError:
                return
            except EtcdError as error:
                logger.debug("a turn failed", extra={"vip": self.name, "reason": str(error)})
            except Exception:
                logger.exception("a turn of a virtual IP failed", extra={"vip": self.name})
                pause_s = _FAULT_S
            if self._unwanted and self.holding.hold is None and not self.token:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)

    async def _turn(self) -> float:
        """One round of deciding and doing; how long to pause."""
        confirmation: Confirmation | None = None
        decision = decide(self._facts(None))
        if decision.action is Action.CONFIRM and self._is_handed_over():
            return await self._claim()
        if decision.action is Action.CONFIRM:
            confirmation = await self._confirm()
            decision = decide(self._facts(confirmation))
        match decision.action:
            case Action.STAND:
                await self._candidate.stand(timeout_s=self._timing.request_timeout_s)
                return 0.0
            case Action.WITHDRAW:
                await self._withdraw(decision.reason)
                self._enter(decision)
                return self._timing.following_renewal_s
            case Action.RELEASE:
                await self._release(decision.reason)
                return 0.0
            case Action.CLAIM if confirmation is not None:
                return await self._approach(decision, confirmation)
            case Action.KEEP if confirmation is not None:
                await self._keep_record()
                return self._timing.renewal_s
            case Action.FOLLOW if confirmation is not None:
                self._enter(decision)
                return await self._follow(confirmation)
        return self._timing.following_renewal_s

    def _facts(self, confirmation: Confirmation | None) -> Facts:
        queue = confirmation.queue if confirmation else self._context.view.queue(self.name)
        now = now_s()
        record = self._context.view.holders.get(self.name)
        released = record is not None and record.state == "released"
        return Facts(
            held=self.holding.hold is not None,
            stands=self._candidate.token is not None,
            leads=confirmation.leads if confirmation else None,
            recorded=self._recorded(),
            others_stand=any(contender.value != self._context.me.encode() for contender in queue),
            unwanted=self._unwanted,
            problem=self.holding.find_problem(),
            elsewhere=self._elsewhere(),
            useless=self._context.useless(self.vip) or "",
            promised=now < self._context.book.until_s(self.name) and not released,
        )

    def _recorded(self) -> bool:
        record = self._record
        return record is not None and record.state == "held" and record.token == self._candidate.token

    def _elsewhere(self) -> str:
        """Why the address should be at another instance, if it can go there now."""
        move, record = self._context.view.moves.get(self.name), self._context.view.holders.get(self.name)
        me, queue = self._context.me, self._context.view.queue(self.name)
        if move is None or record is None or record.token != move.token:
            self._elsewhere_since_s = None
            return self._context.give_away(self.name, self.vip, queue) if self.holding.hold is not None else ""
        if self.holding.hold is None:
            return f"it is to move to {move.to}" if move.to and move.to != me else ""
        names = [contender.value.decode("utf-8", "replace") for contender in queue]
        if move.token != self.holding.hold.token or move.to == me or not set(names) - {me}:
            return ""
        # Give the others time to step back, so that the one that is wanted is next.
        self._elsewhere_since_s = self._elsewhere_since_s or now_s()
        waited = now_s() - self._elsewhere_since_s > _MOVE_PATIENCE_S
        if not move.to or names[1:2] == [move.to] or (waited and move.to in names):
            return f"moved to {move.to or 'another instance'} by hand"
        return ""

    async def _confirm(self) -> Confirmation:
        token = self._candidate.token
        try:
            confirmation = await self._candidate.confirm(
                reads=[self._record_key], timeout_s=self._timing.request_timeout_s
            )
        except CandidacyLostError as error:
            self._note_lost(token or 0, error.reason)
            raise
        self._take(confirmation)
        return confirmation

    def _take(self, confirmation: Confirmation) -> None:
        self._note_record(confirmation.read[0])
        # Whatever became of a claim or a doubt whose answer was lost, this tells.
        self.busy = self._record is not None and self._record.doubted == self._context.me
        hold = self.holding.hold
        if hold is None or not confirmation.leads or not self._recorded() or hold.token != confirmation.token:
            return
        if self._record is not None and not self._record.doubted:
            self.holding.confirm(confirmation)

    def _note_record(self, pair: KeyValue | None) -> None:
        self._record = holder_of(pair)
        revision = pair.mod_revision if pair is not None else 0
        if revision != self._record_revision:
            self._record_revision = revision
            self._unsure_peers = (0, frozenset())
        if self._record is not None:
            self._context.book.learn(self.name, self._record.token)

    def _note_lost(self, token: int, reason: str) -> None:
        """etcd no longer has our key. With everybody's promise the address may stay, or else it goes now."""
        hold, self.busy = self.holding.hold, False
        if hold is not None and hold.token == token and now_s() >= hold.promised_until_s:
            self.holding.take_down(f"etcd no longer has its candidacy: {reason}", in_order=False)

    # --- not holding

    async def _follow(self, confirmation: Confirmation) -> float:
        """Another one leads. If we are next and do not hear it, doubt it; if it says nothing to that, unseat
        it."""
        compares, puts = self._release_record(self._reason)
        if puts:
            # It could not be told when it happened: etcd was away.
            await self._write(compares, puts)
        record = self._record
        if record is not None and self._doubt[0] and record.doubted != self._context.me:
            # The holder lives, though we do not hear it. Once is enough for now.
            self._doubt = (0, 0.0)
            self._believe_until_s = now_s() + _BELIEVE_S
        if record is None or not self._may_unseat(record, confirmation):
            return self._timing.following_renewal_s
        guard = [Compare.mod_revision(self._record_key, "==", self._record_revision)]
        if self.vip.failover == "strict":
            if record.doubted != self._context.me or self._doubt[0] != self._record_revision:
                await self._cast_doubt(record, guard)
            left_s = self._doubt[1] + wait_s(record.window_s) - now_s()
            if self._doubt[0] != self._record_revision or left_s > 0:
                return min(max(left_s, 0.001), self._timing.renewal_s)
        leader, timeout_s = confirmation.queue[0], self._timing.request_timeout_s
        if await unseat(self._context.client, leader, guard, timeout_s=timeout_s):
            self._unseated_token = record.token
            extra = {"vip": self.name, "holder": record.instance}
            logger.warning("the holder of a virtual IP stays silent: it is unseated", extra=extra)
        return 0.0

    async def _cast_doubt(self, record: Holder, guard: list[Compare]) -> None:
        """Say in the record that we do not hear the holder. From then on no renewal of its counts."""
        extra = {"vip": self.name, "holder": record.instance}
        logger.warning("the holder of a virtual IP is silent: it is doubted", extra=extra)
        self.busy = True
        doubted = msgspec.structs.replace(record, doubted=self._context.me)
        await self._write(guard, [Put(self._record_key, msgspec.json.encode(doubted))])
        if self._record is not None and self._record.doubted == self._context.me:
            self._doubt = (self._record_revision, now_s())

    async def _write(self, compares: list[Compare], puts: list[Put]) -> None:
        done = await self._candidate.confirm(
            compares, puts, [self._record_key], timeout_s=self._timing.request_timeout_s
        )
        self._take(done)

    def _may_unseat(self, record: Holder, confirmation: Confirmation) -> bool:
        if self.vip.failover == "lease" or record.state != "held":
            return False
        if record.token != confirmation.queue[0].token or confirmation.token != confirmation.queue[1].token:
            return False
        hearing, now = self._context.peers.hearing, now_s()
        silent_s = hearing.silence_of_holder_s(record.instance, self.name, record.token)
        heard_by, known = hearing.heard_by(record.instance), hearing.heard_now()
        if not may_unseat(record, self._context.me, silent_s, heard_by, known):
            return False
        forgotten_s = self._context.boot_s + wait_s(record.promise_s)
        return now >= max(forgotten_s, self._context.book.until_s(self.name), self._believe_until_s)

    async def _approach(self, decision: Decision, confirmation: Confirmation) -> float:
        """We lead: claim if the address is certain to be free."""
        if self.holding.hold is None and self._context.better(self.name, self.vip, confirmation.queue):
            await self._candidate.withdraw(timeout_s=self._timing.request_timeout_s)
            return 0.0
        record, now = self._record, now_s()
        verdict = may_claim(record, await self._claimant(record))
        restored_s = self._context.view.restored_s + wait_s(self._timing.promise_s)
        if isinstance(verdict, Claim) and now < restored_s and self.holding.hold is None:
            verdict = Wait(restored_s, "etcd was restored: an older holder may not know yet")
        match verdict:
            case Claim():
                return await self._claim()
            case Wait(until_s, reason):
                self._enter(Decision(Action.CLAIM, State.CLAIMING, reason))
                return max(0.001, min(until_s - now_s(), self._timing.following_renewal_s))
            case AskPeers(names, reason):
                assert record is not None
                self._enter(Decision(Action.CLAIM, State.CLAIMING, reason))
                self._context.peers.ask_for_refusal(self.name, record.token, names)
                return self._timing.renewal_s

    async def _claimant(self, record: Holder | None) -> Claimant:
        context, now = self._context, now_s()
        token = record.token if record is not None else 0
        seen_s = context.view.gone_since_s(self.name, token)
        if self._first_gone_s[0] != token:
            self._first_gone_s = (token, now if seen_s is None else seen_s)
        foreign = record is not None and record.state == "held" and record.host != context.host
        gone = (
            foreign
            and record is not None
            and await lease_is_gone(context.client, record.lease, timeout_s=self._timing.request_timeout_s)
        )
        named = {*record.peers, record.instance} if record is not None else set()
        return Claimant(
            name=context.me,
            host=context.host,
            now_s=now_s(),
            boot_s=context.boot_s,
            promised_until_s=self._promised_until_s(record),
            gone_since_s=self._first_gone_s[1],
            lease_gone=gone,
            refused=bool(named & context.peers.refused_by(self.name, token)),
            waited=token == self._unseated_token,
        )

    def _promised_until_s(self, record: Holder | None) -> float:
        released = record is not None and record.state == "released"
        return 0.0 if released else self._context.book.until_s(self.name)

    def _is_handed_over(self) -> bool:
        """Whether the watch says that the last holder released the address and that we are next.

        Then the claim need not be preceded by a question. It is certain that we lead: who stands before us
        stood there when we came, and the watch had told of all of them when it told of us. And the claim
        compares the record with the one that was released.
        """
        view, name = self._context.view, self.name
        queue, record = view.queue(name), view.holders.get(name)
        if (
            self.holding.hold is not None
            or record is None
            or record.state != "released"
            or record.token == self.token
        ):
            return False
        if not queue or queue[0].token != self.token or queue[0].key != self._candidate.key:
            return False
        if (
            self._context.better(name, self.vip, queue)
            or now_s() < view.restored_s + self._timing.promise_s * 2
        ):
            return False
        self._note_record(view.records[name])
        return True

    async def _claim(self) -> float:
        if self._record is None and not self._probed and self.holding.hold is None:
            self._probed = True
            conflict = await self.holding.conflict()
            if conflict is not None and self.vip.on_conflict == "report":
                self.holding.fail(f"{conflict}: not claimed", _CONFLICT_S)
            return 0.0
        if self._promised_until_s(self._record) > now_s():
            return _RETRY_S
        self.busy = True
        record = self._new_record(self.token)
        done = await self._candidate.confirm(
            [
                Compare.mod_revision(self._record_key, "==", self._record_revision),
                Compare.create_revision(self._vip_key, ">", 0),
            ],
            [Put(self._record_key, msgspec.json.encode(record))],
            [self._record_key],
            timeout_s=self._timing.request_timeout_s,
        )
        self.busy = False
        self._note_record(done.read[0])
        if done.held and done.leads:
            self.holding.acquire(done)
            if self.holding.hold is not None:
                self._enter(Decision(Action.KEEP, State.ANNOUNCING, "claimed"))
        # If it came too late to be of use, etcd is slow: no hurry with the next one.
        return self._timing.renewal_s if self.holding.hold is not None else _RETRY_S

    def _new_record(self, token: int) -> Holder:
        return Holder(
            instance=self._context.me,
            address=self.vip.ip,
            token=token,
            lease=self._candidate.lease_id or 0,
            state="held",
            since=_wall_clock(),
            window_s=self._timing.window_s,
            promise_s=self._timing.promise_s,
            host=self._context.host,
            peers=self._context.peers_now(),
            reason="claimed",
        )

    async def _keep_record(self) -> None:
        """Whoever may have to be asked when etcd is lost has to be in the record before. And no doubt may
        stay."""
        record = self._record
        peers = self._context.peers_now()
        if record is None or (sorted(record.peers) == peers and not record.doubted):
            return
        if record.doubted:
            extra = {"vip": self.name, "by": record.doubted}
            logger.warning("another instance did not hear the holder of a virtual IP: it is told", extra=extra)
        self._unsure_peers = (self._record_revision, frozenset(peers))
        changed = msgspec.structs.replace(record, peers=peers, doubted="")
        guard = [Compare.mod_revision(self._record_key, "==", self._record_revision)]
        await self._write(guard, [Put(self._record_key, msgspec.json.encode(changed))])

    def _peers_to_ask(self) -> set[str]:
        """All that the record names, and all that it may name by now: a write whose answer is lost may come
        late."""
        record = self._record
        return {*(record.peers if record is not None else ()), *self._unsure_peers[1]}

    # --- giving up

    async def _release(self, reason: str) -> None:
        self._enter(Decision(Action.RELEASE, State.RELEASING, reason))
        self.holding.take_down(reason, in_order=True)
        await self._withdraw(reason)

    async def _withdraw(self, reason: str) -> None:
        """Leave the queue, and say in the same instant that the address is free, if the record says
        otherwise."""
        await self._candidate.withdraw(*self._release_record(reason), timeout_s=self._timing.request_timeout_s)

    def _release_record(self, reason: str) -> tuple[list[Compare], list[Put]]:
        """What has to hold, and what is to be written, if etcd says that we hold what we have given up."""
        record = self._record
        if (
            record is None
            or record.state != "held"
            or record.token != self.holding.last_held
            or self.holding.hold is not None
        ):
            return [], []
        released = msgspec.structs.replace(
            record, state="released", doubted="", since=_wall_clock(), reason=reason
        )
        return (
            [Compare.mod_revision(self._record_key, "==", self._record_revision)],
            [Put(self._record_key, msgspec.json.encode(released))],
        )

    def _lost(self, reason: str) -> None:
        """The address is gone from here."""
        if self.state is not State.RELEASING:
            self._enter(Decision(Action.RELEASE, State.FOLLOWING, reason))
        self._wake.set()

    def _enter(self, decision: Decision) -> None:
        if (decision.state, decision.reason) == (self.state, self._reason):
            return
        before, self.state = self.state, decision.state
        if decision.state is State.FOLLOWING and not decision.reason:
            if before is State.FOLLOWING:
                return
        else:
            self._reason = decision.reason
        if before is not decision.state:
            self._since = _wall_clock()
        logger.info(
            f"virtual IP: {decision.state}",
            extra={
                "vip": self.name,
                "address": self.vip.ip,
                "before": str(before),
                "token": self.token,
                "reason": decision.reason,
            },
        )
        self._context.on_change()


def _wall_clock() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
