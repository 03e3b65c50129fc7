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
from dataclasses import replace

from weldr.control.announce.announcer import Announcer
from weldr.control.vip.claiming import Claiming
from weldr.control.vip.context import Context
from weldr.control.vip.holding import Holding
from weldr.control.vip.judge import Judge
from weldr.control.vip.machine import Action, Decision, Facts, State, decide
from weldr.control.vip.placement import Placement
from weldr.control.vip.record import wall_clock
from weldr.control.vip.rules import AskPeers, Claim, Wait, released_token
from weldr.control.vip.seat import Seat
from weldr.control.vip.silence import Silence
from weldr.etcd.client import Compare, Delete
from weldr.etcd.clock import now_s
from weldr.etcd.election import CandidacyLostError, Confirmation, Contender, unseat
from weldr.etcd.errors import EtcdClosedError, EtcdError
from weldr.etcd.operations import Operation
from weldr.model.takeover import Candidacy, HandedVip
from weldr.model.vip_timing import KERNEL_LATENESS_S, wait_s
from weldr.model.vips import Vip, VipState

logger = logging.getLogger(__name__)


_RETRY_S = 0.1
_FAULT_S = 1.0
_STOP_S = 2.0


class VirtualIp:
    """Runs until `stop`. Each wish in etcd gets one of its own: a changed one is another virtual IP."""

    def __init__(self, name: str, vip: Vip, context: Context, announcer: Announcer) -> None:
        self.name = name
        self.vip = vip
        self.state = State.FOLLOWING
        self._context = context
        self._timing = vip.timing()
        self._seat = Seat(name, vip, context)
        self._record = self._seat.record
        self._silence = Silence(name, vip, context, self._seat)
        self._judge = Judge(name, vip, context, self._seat, lambda: self.holding.hold is not None, self.wake)
        self.holding = Holding(
            name, vip, context, announcer, lambda: self._record.peers_to_ask, self._lost, self.wake
        )
        self._claiming = Claiming(name, vip, context, self._seat, self._judge, self.holding)
        self._placement = Placement(name, vip, context)
        self._reason = ""
        self._since = wall_clock()
        self._unwanted = ""
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._go = asyncio.Event()
        self._go.set()
        self._parked = asyncio.Event()

    # --- for the owner

    @property
    def token(self) -> int:
        """Of the present candidacy; 0 if it does not stand."""
        return self._seat.token or 0

    @property
    def busy(self) -> bool:
        """Whether a claim is under way: nothing may be promised to anybody else."""
        return self._seat.busy

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._take_turns(), name=f"vip-{self.name}"),
            asyncio.create_task(self.holding.guard(), name=f"vip-guard-{self.name}"),
        ]

    def wake(self) -> None:
        """Something may have changed."""
        self._wake.set()

    def start_over(self) -> None:
        """etcd may be another one, or an older copy of itself."""
        self._judge.start_over()
        self._silence.start_over()

    def hear_silence(self) -> None:
        """The holder has not been heard for a while: see to it, if that is for us."""
        record = self._context.view.holders.get(self.name)
        if record is not None and self._silence.may_act(record, self._context.view.queue(self.name)):
            self.wake()

    # --- for an upgrade

    async def park(self) -> None:
        """Return when nothing is under way for it any more, nor begins before `unpark`."""
        self._parked.clear()
        self._go.clear()
        self._wake.set()
        await self._parked.wait()
        self.holding.rests = True

    def unpark(self) -> None:
        """Go on."""
        self.holding.rests = False
        self._go.set()
        self._wake.set()

    def hand_on(self) -> HandedVip | None:
        """What another manager has to know to go on in our place; `None`: it may as well begin anew. To be
        called when it is parked."""
        candidacy = self.candidacy()
        if candidacy is None:
            return None
        unsure_revision, unsure = self._record.unsure
        return HandedVip(
            candidacy=candidacy,
            held=self.holding.hand_on(),
            last_held=self.holding.last_held,
            left_behind_until_s=self.holding.left_behind_until_s,
            busy=self.busy,
            unsure_revision=unsure_revision,
            unsure=sorted(unsure),
            state=str(self.state),
            since=self._since,
            reason=self._reason,
        )

    def candidacy(self) -> Candidacy | None:
        """Its place in the queue, if it has one."""
        return self._seat.candidacy(self.name, self.vip)

    def adopt_candidacy(self, candidacy: Candidacy) -> None:
        """Go on with a place in the queue that is ours already. Before `start`."""
        self._seat.adopt(candidacy)
        self._claiming.probed = True

    def inherit(self, candidacy: Candidacy) -> None:
        """Go on with the place in the queue of another manager of this instance, which has died and may have
        left the address here. Before `start`."""
        self.adopt_candidacy(candidacy)
        self._may_be_left_behind()

    def take_back(self) -> None:
        """Go on although another manager of this instance may have acted in our place, and was ended: it may
        have left the address here, or named other peers."""
        self._record.distrust()
        self.holding.forget_promises()
        self._may_be_left_behind()

    def _may_be_left_behind(self) -> None:
        # What the other one has set for the last time goes by itself.
        self.holding.note_left_behind(now_s() + wait_s(self._timing.lifetime_s + KERNEL_LATENESS_S))

    def adopt(self, handed: HandedVip) -> None:
        """Go on in the place of another manager of this instance, which has parked. Before `start`."""
        self.adopt_candidacy(handed.candidacy)
        self._seat.busy = handed.busy
        self._record.adopt_unsure(handed.unsure_revision, handed.unsure)
        if handed.state in set(State):
            self.state = State(handed.state)
        self._since, self._reason = handed.since or self._since, handed.reason
        self.holding.adopt(handed.held, handed.last_held)
        self.holding.note_left_behind(handed.left_behind_until_s)

    def is_settled(self, since_s: float) -> bool:
        """Whether what is held here has been confirmed since then."""
        hold = self.holding.hold
        return hold is None or hold.confirmed_s >= since_s

    async def let_go(self) -> None:
        """End, and leave everything as it is: somebody else goes on with it. It is parked."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.holding.close()

    # --- the end

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
        await self._seat.close(_RETRY_S * 5)
        await self.holding.close()

    def describe(self) -> VipState:
        """For `instances/<instance>`."""
        return VipState(
            state=self.state,
            token=self.token,
            since=self._since,
            reason=self._reason,
            problem=self.holding.failure,
        )

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
            if not self._go.is_set():
                # Behind a turn: what is held has just been confirmed, and lasts for as long as it can.
                self._parked.set()
                await self._go.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _turn(self) -> float:
        """One round of deciding and doing; how long to pause."""
        confirmation: Confirmation | None = None
        decision = decide(self._facts(None))
        if decision.action is Action.CONFIRM and self._judge.is_handed_over():
            return await self._claim()
        if decision.action is Action.CONFIRM:
            confirmation = await self._confirm()
            decision = decide(self._facts(confirmation))
        match decision.action:
            case Action.STAND:
                await self._seat.stand()
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
                self._claiming.note_other_leads()
                return await self._follow(confirmation)
        return self._timing.following_renewal_s

    def _facts(self, confirmation: Confirmation | None) -> Facts:
        queue = confirmation.queue if confirmation else self._context.view.queue(self.name)
        now = now_s()
        released = released_token(self._context.view.holders.get(self.name))
        hold, token = self.holding.hold, self._seat.token
        return Facts(
            held=hold is not None,
            stands=token is not None,
            leads=confirmation.leads if confirmation else None,
            # What is held by an earlier candidacy is not renewed by this one, although the record names it
            # where the answer to its claim was lost.
            recorded=self._record.names(token) and (hold is None or hold.token == token),
            others_stand=self._context.others_in(queue),
            unwanted=self._unwanted,
            problem=self.holding.find_problem(),
            # What is held goes nowhere before etcd has answered.
            elsewhere=self._placement.elsewhere(hold) if hold is None or confirmation is not None else "",
            useless=self._context.useless(self.vip) or "",
            promised=now < self._context.book.until_s(self.name, released=released),
        )

    async def _confirm(
        self, compares: list[Compare] | None = None, operations: list[Operation] | None = None
    ) -> Confirmation:
        token = self.token
        try:
            confirmation = await self._seat.confirm(compares or (), operations or ())
        except CandidacyLostError as error:
            self._note_lost(token, error.reason)
            raise
        hold, holder = self.holding.hold, self._record.holder
        if hold is None or hold.token != confirmation.token or not confirmation.leads:
            return confirmation
        # A renewal counts only while nobody doubts us.
        if self._record.names(hold.token) and holder is not None and not holder.doubted:
            self.holding.confirm(confirmation)
        return confirmation

    def _note_lost(self, token: int, reason: str) -> None:
        """etcd no longer has our key. With everybody's promise the address may stay, or else it goes now."""
        hold = self.holding.hold
        if hold is not None and hold.token == token and now_s() >= hold.promised_until_s:
            self.holding.take_down(f"etcd no longer has its candidacy: {reason}", in_order=False)

    # --- not holding

    async def _follow(self, confirmation: Confirmation) -> float:
        """Another one leads. If we are next, see to it that a silent one does not lead for long."""
        self._judge.inquire()
        if self._owes_release():
            # It could not be told when it happened: etcd was away.
            await self._confirm([self._record.unchanged], [self._record.given_up(self._reason)])
        step = await self._silence.listen(confirmation)
        return await self._take_over(step, confirmation) if isinstance(step, Contender) else step

    async def _take_over(self, silent: Contender, confirmation: Confirmation) -> float:
        """Unseat the holder, and claim in the same instant if it is we who should have the address."""
        record = self._record.holder
        assert record is not None
        extra = {"vip": self.name, "holder": record.instance}
        logger.warning("the holder of a virtual IP stays silent: it is unseated", extra=extra)
        free = isinstance(self._judge.judge_silent(), Claim)
        if free and not self._context.better(self.name, self.vip, confirmation.queue):
            return await self._claim(unseating=silent)
        client, timeout_s = self._context.client, self._timing.request_timeout_s
        operations: list[Operation] = []
        if free and self.vip.failover == "strict":
            # Nobody has the address: whoever is to have it need not wait until that is certain once more.
            operations.append(self._record.given_up("it was silent"))
        if await unseat(client, silent, [self._record.unchanged], operations, timeout_s=timeout_s):
            self._judge.note_unseated(record.token)
        return 0.0

    async def _approach(self, decision: Decision, confirmation: Confirmation) -> float:
        """We lead: claim if the address is certain to be free."""
        if self.holding.hold is None and self._context.better(self.name, self.vip, confirmation.queue):
            await self._withdraw("another instance should have it")
            return 0.0
        match await self._judge.judge():
            case Claim():
                return await self._claim()
            case Wait(until_s, reason):
                self._enter_claiming(reason)
                return max(0.001, min(until_s - now_s(), self._timing.following_renewal_s))
            case AskPeers(_, reason):
                self._enter_claiming(reason)
                return self._timing.renewal_s

    async def _claim(self, *, unseating: Contender | None = None) -> float:
        token = self.token
        try:
            pause_s = await self._claiming.claim(unseating=unseating)
        except CandidacyLostError as error:
            self._note_lost(token, error.reason)
            raise
        if pause_s is not None:
            return pause_s
        if self._record.holder is not None:
            self._enter(Decision(Action.KEEP, State.ANNOUNCING, self._record.holder.reason))
        return self._timing.renewal_s

    async def _keep_record(self) -> None:
        """Whoever may have to be asked without etcd has to be in the record before, and no doubt may stay."""
        asked = self._record.named
        put, record = self._record.kept(), self._record.holder
        if put is None or record is None:
            return
        if self._record.named - asked:
            self.holding.forget_promises()
        if record.doubted:
            extra = {"vip": self.name, "by": record.doubted}
            logger.warning("another instance did not hear the holder of a virtual IP: it is told", extra=extra)
        await self._confirm([self._record.unchanged], [put])

    # --- giving up

    async def _release(self, reason: str) -> None:
        self._enter(Decision(Action.RELEASE, State.RELEASING, reason))
        self.holding.take_down(reason, in_order=True)
        await self._withdraw(reason)

    async def _withdraw(self, reason: str) -> None:
        """Leave the queue, and say in the same instant that the address is free, if the record says
        otherwise."""
        compares: list[Compare] = []
        operations: list[Operation] = []
        if self._owes_release():
            compares.append(self._record.unchanged)
            # Of a virtual IP that is wanted no more nothing stays behind.
            is_gone = self.name not in self._context.view.vips
            operations.append(Delete(self._record.key) if is_gone else self._record.given_up(reason))
        await self._seat.withdraw(compares, operations)

    def _owes_release(self) -> bool:
        """Whether etcd says that we hold what we have given up. What a restored one says is of the past:
        somebody else may have taken it after us."""
        restored = self._context.view.restored_revision
        if restored is not None and self._record.revision <= restored:
            return False
        if now_s() < self.holding.left_behind_until_s:
            return False
        return self.holding.hold is None and self._record.is_ours(self.holding.last_held)

    def _lost(self, reason: str) -> None:
        """The address is gone from here."""
        if self.state is not State.RELEASING:
            self._enter(Decision(Action.RELEASE, State.FOLLOWING, reason))
        self._wake.set()

    def _enter_claiming(self, reason: str) -> None:
        """While promises keep the address here, it stays announced."""
        if self.holding.hold is None:
            self._enter(Decision(Action.CLAIM, State.CLAIMING, reason))

    def _enter(self, decision: Decision) -> None:
        if self.state is State.FAULT and decision.state is State.FOLLOWING and not decision.reason:
            decision = replace(decision, reason="this host can hold it again")
        if (decision.state, decision.reason) == (self.state, self._reason):
            return
        before, self.state = self.state, decision.state
        if decision.state is State.FOLLOWING and not decision.reason:
            if before is State.FOLLOWING:
                return
        else:
            self._reason = decision.reason
        if before is not decision.state:
            self._since = wall_clock()
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
