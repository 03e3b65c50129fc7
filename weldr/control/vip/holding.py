"""The address while it is here: put in place, kept for as long as it may be, taken away.

A *guard* looks many times a second whether the address has to go, and asks the peers for promises when etcd is
silent. It needs nothing but the clock, so it works whatever a request to etcd is waiting for.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from weldr.control.announce.announcer import AnnounceError, Announcer, LateError
from weldr.control.vip.context import Context
from weldr.control.vip.hold import Hold
from weldr.control.vip.promises import Round
from weldr.etcd.clock import now_s
from weldr.etcd.election import Confirmation
from weldr.model.takeover import HeldAddress
from weldr.model.vips import Vip

logger = logging.getLogger(__name__)

_GUARD_S = 0.05
_LOOK_S = 1.0
_KNOWN_S = 5.0
"""A host without a problem has none for so long, unless it tells of a change there: the look takes
milliseconds, and a handover waits for it."""
_FAULT_S = 1.0
_REFUSED_S, _LONGEST_REFUSED_S = 10.0, 60.0
"""Longer than a window: who may have the address but cannot set it must leave others the time to claim it."""


class Holding:
    """Owns the hold on one virtual IP."""

    def __init__(
        self,
        name: str,
        vip: Vip,
        context: Context,
        announcer: Announcer,
        peers_to_ask: Callable[[], frozenset[str]],
        on_loss: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        """`peers_to_ask` are those whose promise is needed without etcd; `on_loss` is told why the address
        went; `wake` has the next turn taken now."""
        self.hold: Hold | None = None
        """`None`: the address is not here."""
        self.last_held = 0
        """The token of the last hold: what etcd says of it is for us to correct."""
        self.left_behind_until_s = 0.0
        """Until when the address may be here, held or not: it could not be removed, or another manager of this
        instance, which is gone, may have put it here."""
        self.rests = False
        """Whether the address is for another manager of this instance to look after: nothing is done to it."""
        self.problem = ""
        """Why this host cannot hold the address, as far as was known when it was last asked."""
        self._name = name
        self._vip = vip
        self._timing = vip.timing()
        self._context = context
        self._announcer = announcer
        self._peers_to_ask = peers_to_ask
        self._on_loss = on_loss
        self._wake = wake
        self._unanswered: Round | None = None
        """The first question to the peers since anything has confirmed it for the last time."""
        self._look_at_s = 0.0
        self._problem_until_s = 0.0
        self._known_until_s = 0.0
        self._refusals = 0
        """How often in a row the address could not be set after a claim."""

    def held_until_s(self, but: int) -> float:
        """Until when the address may be here by any token but that; a time in the past if it is not."""
        hold = self.hold
        if hold is None or hold.token == but:
            return self.left_behind_until_s
        return max(self.left_behind_until_s, hold.window_end_s)

    def find_problem(self) -> str:
        """Why this host cannot hold the address; empty if it can."""
        now = now_s()
        if self.hold is None and now >= max(self._problem_until_s, self._known_until_s):
            self.problem = self._ask_for_problem()
            self._known_until_s = now + _KNOWN_S if not self.problem else 0.0
        return self.problem

    def _ask_for_problem(self) -> str:
        try:
            return self._announcer.problem() or ""
        except OSError as error:
            return f"whether this host can hold the address is not known: {error.strerror or error}"

    @property
    def failure(self) -> str:
        """What has come to nothing here, though it keeps this host from nothing; empty if nothing has."""
        return self._announcer.failure() or ""

    async def conflict(self) -> str | None:
        """Who else answers for the address."""
        return await self._announcer.conflict()

    def acquire(self, confirmation: Confirmation, *, alone: bool = False) -> None:
        """We have claimed it: put it in place, or go on with another token. `alone`: nobody else, such as an
        earlier life of this instance, may have put it in place here."""
        sent_s, now = confirmation.sent_s, now_s()
        before = self.hold
        hold = Hold(confirmation.token, self._timing, sent_s, now, sent_s)
        hold.confirm(sent_s)
        if before is not None:
            hold.window_end_s = max(hold.window_end_s, before.window_end_s)
            hold.promised_until_s = before.promised_until_s
            hold.asked_too_few_s = before.asked_too_few_s
        try:
            if before is None:
                self._announcer.acquire(hold.token, hold.latest_set_s)
            else:
                self._announcer.renew(hold.latest_set_s)
        except LateError as error:
            self.take_down(str(error), in_order=False, tried=hold)
        except AnnounceError as error:
            pause_s = min(_REFUSED_S * self._refusals, _LONGEST_REFUSED_S) or _FAULT_S
            self._refusals += 1
            self.fail(str(error), pause_s, hold)
        else:
            self._refusals = 0
            hold.note_set(now)
            self.hold, self.last_held = hold, hold.token
            if before is None:
                self._context.transitions[self._name, "got"] += 1
            return
        if alone and now >= self.left_behind_until_s:
            # etcd says that we have it, and it is not here: that is for us to correct.
            self.last_held = hold.token

    def note_left_behind(self, until_s: float) -> None:
        """The address may be here until then, by nobody's hold."""
        self.left_behind_until_s = max(self.left_behind_until_s, until_s)

    def hand_on(self) -> HeldAddress | None:
        """What another manager has to know to keep the address, if it is here."""
        hold = self.hold
        if hold is None:
            return None
        promised_s = hold.promised_until_s
        return HeldAddress(
            token=hold.token,
            window_end_s=hold.window_end_s,
            expires_s=hold.expires_s,
            confirmed_s=hold.confirmed_s,
            promised_until_s=promised_s if math.isfinite(promised_s) else None,
            placed=self._announcer.placed(),
        )

    def adopt(self, held: HeldAddress | None, last_held: int) -> None:
        """Keep the address that another manager of this instance has put in place. It stays as long as that one
        has set it for; our own confirmation, which is to come at once, has it set again."""
        self.last_held = last_held
        if held is None:
            return
        hold = Hold(held.token, self._timing, held.window_end_s, held.expires_s, held.confirmed_s)
        if held.promised_until_s is not None:
            hold.promised_until_s = held.promised_until_s
        self.hold = hold
        try:
            self._announcer.adopt(hold.token, placed=held.placed)
        except (AnnounceError, OSError) as error:
            self.fail(str(error))
            # Without knowing where it is nobody could remove it.
            self.last_held = 0
            self.note_left_behind(hold.window_end_s)
            return
        if now_s() >= hold.expires_s:
            self.take_down("it lapsed while one manager took the place of another", in_order=False)

    def confirm(self, confirmation: Confirmation) -> None:
        """etcd says that it is still ours."""
        hold = self.hold
        assert hold is not None
        hold.confirm(confirmation.sent_s)
        self._unanswered = None
        if hold.may_set_again(now_s()):
            hold.confirmed_s = confirmation.sent_s
            self._set_again()

    async def guard(self) -> None:
        """For good: see the module."""
        while True:
            await asyncio.sleep(_GUARD_S)
            if self.rests:
                continue
            try:
                self._look_after()
            except Exception:
                logger.exception("looking after a virtual IP failed", extra={"vip": self._name})
                self.take_down("looking after it failed", in_order=False)

    def _look_after(self) -> None:
        hold, now = self.hold, now_s()
        if hold is None:
            return
        if now >= hold.expires_s:
            lacks = f": {self._unanswered.lacks}" if self._unanswered is not None else ""
            self.take_down(f"neither etcd nor every peer confirmed it in time{lacks}", in_order=False)
            return
        if now >= self._look_at_s:
            self._look_at_s = now + _LOOK_S
            self.look()
        if self._vip.on_etcd_loss == "peers" and hold.should_ask(now):
            self._ask_for_promises(hold, now)

    def _ask_for_promises(self, hold: Hold, now: float) -> None:
        peers = self._peers_to_ask()
        # With nobody to ask there is nobody who could say that it is still ours.
        if peers:
            hold.asked_s = now
            asked = self._context.peers.ask_for_promises(
                self._name, hold.token, self._timing.promise_s, peers, self._take_promises
            )
            self._unanswered = self._unanswered or asked

    def _take_promises(self, asked: Round) -> None:
        hold = self.hold
        if hold is None or hold.token != asked.token or self.rests:
            return
        self._unanswered = None
        hold.promise(asked.sent_s)
        if hold.may_set_again(now_s()):
            self._set_again()

    def forget_promises(self) -> None:
        """Not all that are about to be peers have been asked."""
        if self.hold is not None:
            self.hold.forget_promises(now_s())

    def forget_known(self) -> None:
        """Something of this host has changed: whether it can hold the address is to be asked anew."""
        self._known_until_s = 0.0

    def look(self, *, removed: bool = False) -> None:
        """An address or interface of this host has changed; maybe this address was `removed`, and a renewal has
        put it back since."""
        hold, now = self.hold, now_s()
        self.forget_known()
        if self.rests:
            return
        # At the end of its lifetime it was the kernel, and rightly so.
        if hold is None or now > hold.expires_s - _GUARD_S:
            return
        if self._in_place() and not removed:
            # An interface may have been down for a moment.
            self.problem = ""
            return
        self.problem = self._ask_for_problem()
        if not self.problem:
            logger.warning(
                "a virtual IP was removed by somebody else: it is put back", extra={"vip": self._name}
            )
        if not self.problem and hold.may_set_again(now_s()):
            self._set_again()
        else:
            self._wake()

    def _set_again(self) -> None:
        hold = self.hold
        assert hold is not None
        now = now_s()
        try:
            self._announcer.renew(hold.latest_set_s)
        except LateError as error:
            self.take_down(str(error), in_order=False)
        except AnnounceError as error:
            self.fail(str(error))
        else:
            hold.note_set(now)

    def _in_place(self) -> bool:
        try:
            return self._announcer.in_place()
        except OSError:
            return False

    def fail(self, problem: str, pause_s: float = _FAULT_S, tried: Hold | None = None) -> None:
        """This host cannot hold it, and need not try again for a while; `tried` as for `take_down`."""
        if problem != self.problem:
            logger.error("a virtual IP cannot be held here", extra={"vip": self._name, "reason": problem})
        self.problem = problem
        self._known_until_s = 0.0
        self._problem_until_s = now_s() + pause_s
        self.take_down(problem, in_order=False, tried=tried)

    def take_down(self, reason: str, *, in_order: bool, tried: Hold | None = None) -> None:
        """The address goes, if it is here. `in_order`: there is time to tell its clients first. `tried`: it may
        be here by this, though setting it failed."""
        held, self.hold, self._unanswered = self.hold, None, None
        try:
            self._announcer.release(in_order=in_order)
        except (AnnounceError, OSError) as error:
            # Then nobody may be told that the address is free: they wait until the kernel has removed it.
            self.last_held = 0
            for hold in (held, tried):
                if hold is not None:
                    self.note_left_behind(hold.window_end_s)
            logger.error(
                "a virtual IP could not be removed: the kernel does so by itself",
                extra={"vip": self._name, "reason": str(error)},
            )
        else:
            if held is not None:
                # Whoever else had put it here, it is gone.
                self.left_behind_until_s = 0.0
        if held is not None:
            self._context.transitions[self._name, "lost"] += 1
            self._on_loss(reason)

    async def released(self) -> None:
        """Return when no command is giving it up any more."""
        await self._announcer.released()

    async def close(self) -> None:
        """End what runs in the background."""
        await self._announcer.close()
