"""Whether the address is free for us: brings together what `rules.may_claim` decides by.

Several things have to agree: the record of this virtual IP; those of others that speak of the same address, as
when it was moved to another key; and, where the record is older than this instance, all who are there
(`inquiry.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from weldr.control.vip.context import Context
from weldr.control.vip.inquiry import Inquiry, Life
from weldr.control.vip.rules import NOBODY, AskPeers, Claim, Claimant, Verdict, Wait, is_own, may_claim
from weldr.control.vip.seat import Seat
from weldr.control.vip.wanted import is_elsewhere
from weldr.etcd.client import Compare
from weldr.etcd.clock import now_s
from weldr.etcd.election import lease_is_gone
from weldr.model.keys import Kind
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, Vip

_AGAIN_S = 0.5


class Judge:
    """Of one virtual IP, with our place in its queue."""

    def __init__(
        self,
        name: str,
        vip: Vip,
        context: Context,
        seat: Seat,
        is_held: Callable[[], bool],
        wake: Callable[[], None],
    ) -> None:
        """`is_held` tells whether the address is here; `wake` has the next turn taken now."""
        self._name = name
        self._vip = vip
        self._timing = vip.timing()
        self._context = context
        self._seat = seat
        self._is_held = is_held
        self._wake = wake
        self._record = seat.record
        self._first_gone_s: tuple[int, float] = (0, 0.0)
        self._unseated_token = 0
        self._inquiry = Inquiry()

    @property
    def promised_until_s(self) -> float:
        """Until when we have promised the holder not to claim."""
        return self._context.book.until_s(self._name, released=self._record.released_token)

    def start_over(self) -> None:
        """etcd may be another one: its tokens may be those of the past again."""
        self._first_gone_s, self._unseated_token = (0, 0.0), 0

    def note_unseated(self, token: int) -> None:
        """We have unseated that holder, when its time was over."""
        self._unseated_token = token

    async def judge(self) -> Verdict:
        """We lead. Whom the verdict names to be asked has been asked.

        Raises `EtcdError`.
        """
        record = self._record.holder
        gone = await self._lease_is_gone(record)
        verdict = self._verdict(record, lease_gone=gone, waited=_token_of(record) == self._unseated_token)
        return (self.inquire() or verdict) if isinstance(verdict, Claim) else verdict

    @property
    def may_have_a_namesake(self) -> bool:
        """Whether the record tells of another host, and is of the past: one of our name may be there."""
        return not self._record.is_of_this_place and self._is_of_the_past()

    def _is_of_the_past(self) -> bool:
        """Whether there may be a holder that the record does not tell of: one from before we began to follow
        etcd, which may have been restored since."""
        view, record = self._context.view, self._record.holder
        wanted = view.vips.get(self._name)
        if wanted is not None and self._is_of_this_life(wanted.created):
            return False
        if record is not None and record.token == self._seat.token:
            # It goes on with what another manager of this instance had.
            return False
        return not self._is_of_this_life(self._record.revision)

    def others_unchanged(self) -> list[Compare]:
        """Hold while what was judged of other keys is so: which of them has which address, and who had ours.

        A watch that is behind does not show that an older key has come to have our address, and whoever knows
        that claims it there. A key that was deleted only leaves its address to others.
        """
        view, keys = self._context.view, self._context.keys
        wishes = Compare.nothing_put_since(keys.of_kind(Kind.VIP), view.revision)
        return [wishes] + [
            Compare.mod_revision(keys.key(Kind.HOLDER, other), "==", view.records[other].mod_revision)
            for other, record in view.holders.items()
            # What was given up under a key that is gone cannot be claimed there again without a put.
            if (record.state == "held" or other in view.vips)
            and is_elsewhere(self._name, self._vip, other, record, view)
        ]

    def judge_silent(self) -> Verdict:
        """We are about to unseat the holder, since its time is over."""
        return self._verdict(self._record.holder, lease_gone=False, waited=True)

    def is_handed_over(self) -> bool:
        """Whether the watch says that the last holder released the address and that we are next.

        Then the claim need not be preceded by a question. It is certain that we lead: who stands before us
        stood there when we came, and the watch had told of all of them when it told of us. And the claim
        compares the record with the one that was released.
        """
        view, name = self._context.view, self._name
        queue, record = view.queue(name), view.holders.get(name)
        if self._is_held() or record is None or record.state != "released":
            return False
        if self._elsewhere() is not None or not self._is_of_this_life(view.records[name].mod_revision):
            return False
        if record.token == self._seat.token:
            return False
        if not queue or not self._seat.is_mine(queue[0]):
            return False
        if (
            self._context.better(name, self._vip, queue)
            or now_s() < view.restored_s + self._timing.promise_s * 2
        ):
            return False
        self._record.note(view.records[name])
        return True

    def _verdict(self, record: Holder | None, *, lease_gone: bool, waited: bool) -> Verdict:
        token = _token_of(record)
        if self._first_gone_s[0] != token:
            seen_s = self._context.view.gone_since_s(self._name, token)
            self._first_gone_s = (token, now_s() if seen_s is None else seen_s)
        verdict = self._ask(
            self._name,
            record,
            promised_until_s=self.promised_until_s,
            gone_since_s=self._first_gone_s[1],
            lease_gone=lease_gone,
            waited=waited,
        )
        restored_s = self._context.view.restored_s + wait_s(self._timing.promise_s)
        if isinstance(verdict, Claim) and not self._is_held():
            if now_s() < restored_s:
                return Wait(restored_s, "etcd may have been restored: an older holder may not know yet")
            return self._elsewhere() or verdict
        return verdict

    def _elsewhere(self) -> Wait | AskPeers | None:
        """What speaks against a claim if the address may still be at another host by the election of another
        key, which had this address before ours counted. Whoever was a peer there is one here."""
        context = self._context
        for other, record in context.view.holders.items():
            if record.state != "held" or not is_elsewhere(self._name, self._vip, other, record, context.view):
                continue
            if self._is_own(record):
                continue
            if other not in context.view.unqueued:
                reason = f"the address may still be on {record.instance}, as vips/{other}"
                return Wait(now_s() + _AGAIN_S, reason)
            verdict = self._ask(
                other,
                record,
                promised_until_s=context.book.until_s(other),
                gone_since_s=context.view.unqueued[other][1],
            )
            if not isinstance(verdict, Claim):
                return dataclasses.replace(verdict, reason=f"{verdict.reason}, as vips/{other}")
        return None

    @property
    def _name_here(self) -> str:
        """Ours; but whoever has it, too, gives the promises, and we know nothing of them."""
        return NOBODY if self._context.peers.name_is_taken else self._context.me

    def _is_own(self, record: Holder) -> bool:
        return is_own(record, self._name_here, self._context.host, self._context.machine)

    def _is_of_this_life(self, revision: int) -> bool:
        """Whether that was written since we began to follow etcd: then it tells of all that we need to know."""
        began = self._context.view.began_revision
        return began is not None and revision > began

    def inquire(self) -> Wait | None:
        """Why not to claim by a record that is older than we are, if others know of a reason. To be called long
        before, too: then all have answered when it matters."""
        if self._is_held() or not self._is_of_the_past():
            return None
        context, now, inquiry = self._context, now_s(), self._inquiry
        peers = context.view.peers
        listed = {Life(name, peers[name].boot) for name in context.peers_now()}

        def note(instance: str, until_s: float) -> None:
            if instance in peers:
                inquiry.note(Life(instance, peers[instance].boot), until_s)
                self._wake()

        if asked := inquiry.to_ask(listed, now):
            context.peers.ask_until_when(self._name, _token_of(self._record.holder), asked, note)
        until_s = inquiry.wait_until_s(listed, now)
        return Wait(until_s, "asks the other instances whether they know of a holder") if until_s else None

    async def _lease_is_gone(self, record: Holder | None) -> bool:
        context = self._context
        if record is None or record.state != "held":
            return False
        if self._is_own(record):
            return False
        return await lease_is_gone(context.client, record.lease, timeout_s=self._timing.request_timeout_s)

    def _ask(
        self,
        name: str,
        record: Holder | None,
        *,
        promised_until_s: float,
        gone_since_s: float,
        lease_gone: bool = False,
        waited: bool = False,
    ) -> Verdict:
        """What the record of this key says of a claim; whoever has to refuse its holder is asked to."""
        context, token = self._context, _token_of(record)
        named = {*record.peers, record.instance} if record is not None else set()
        claimant = Claimant(
            name=self._name_here,
            host=context.host,
            machine=context.machine,
            now_s=now_s(),
            boot_s=context.boot_s,
            promised_until_s=promised_until_s,
            gone_since_s=gone_since_s,
            lease_gone=lease_gone,
            refused=bool(named & context.peers.refused_by(name, token)),
            waited=waited,
        )
        verdict = may_claim(record, claimant)
        if isinstance(verdict, AskPeers):
            context.peers.ask_for_refusal(name, token, verdict.names)
        return verdict


def _token_of(record: Holder | None) -> int:
    return record.token if record is not None else 0
