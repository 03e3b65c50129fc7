"""Whether the address is free for us: brings together what `rules.may_claim` decides by."""

from __future__ import annotations

from collections.abc import Callable

from weldr.control.vip.context import Context
from weldr.control.vip.rules import NOBODY, Claim, Claimant, Verdict, Wait, may_claim
from weldr.control.vip.seat import Seat
from weldr.control.vip.wanted import place_of
from weldr.etcd.clock import now_s
from weldr.etcd.election import lease_is_gone
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, Vip

_AGAIN_S = 0.5


class Judge:
    """Of one virtual IP, with our place in its queue."""

    def __init__(self, name: str, vip: Vip, context: Context, seat: Seat, is_held: Callable[[], bool]) -> None:
        """`is_held` tells whether the address is here."""
        self._name = name
        self._vip = vip
        self._timing = vip.timing()
        self._context = context
        self._seat = seat
        self._is_held = is_held
        self._record = seat.record
        self._first_gone_s: tuple[int, float] = (0, 0.0)
        self._unseated_token = 0

    @property
    def promised_until_s(self) -> float:
        """Until when we have promised the holder not to claim."""
        return self._context.book.until_s(self._name, released=self._record.released_token)

    def note_unseated(self, token: int) -> None:
        """We have unseated that holder, when its time was over."""
        self._unseated_token = token

    async def judge(self) -> Verdict:
        """We lead.

        Raises `EtcdError`.
        """
        record = self._record.holder
        gone = await self._lease_is_gone(record)
        return self._verdict(record, lease_gone=gone, waited=_token_of(record) == self._unseated_token)

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
        if self._elsewhere() is not None:
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
        verdict = may_claim(record, self._claimant(record, lease_gone=lease_gone, waited=waited))
        restored_s = self._context.view.restored_s + wait_s(self._timing.promise_s)
        if isinstance(verdict, Claim) and not self._is_held():
            if now_s() < restored_s:
                return Wait(restored_s, "etcd may have been restored: an older holder may not know yet")
            return self._elsewhere() or verdict
        return verdict

    def _elsewhere(self) -> Wait | None:
        """Whether the address may still be at another host by the election of another key, which had this
        address before ours counted.

        That host needs a promise of every instance to keep the address without etcd, and who knows no more of
        that key gives none.
        """
        context, now = self._context, now_s()
        for name, record in context.view.holders.items():
            is_other = name != self._name and record.host != context.host
            if not is_other or record.state != "held" or record.address != self._vip.ip:
                continue
            wanted = context.view.vips.get(name)
            if wanted is not None and wanted.vip.ip == self._vip.ip and not self._is_rival(wanted.vip):
                continue
            reason = f"the address may still be on {record.instance}, as vips/{name}"
            if name not in context.view.unqueued:
                return Wait(now + _AGAIN_S, reason)
            over_s = context.view.unqueued[name][1] + wait_s(max(record.window_s, record.promise_s))
            until_s = max(over_s, context.book.until_s(name))
            if now < until_s:
                return Wait(until_s, reason)
        return None

    def _is_rival(self, vip: Vip) -> bool:
        return vip.announce != "none" and self._vip.announce != "none" and place_of(vip) == place_of(self._vip)

    async def _lease_is_gone(self, record: Holder | None) -> bool:
        if record is None or record.state != "held" or record.host == self._context.host:
            return False
        return await lease_is_gone(self._context.client, record.lease, timeout_s=self._timing.request_timeout_s)

    def _claimant(self, record: Holder | None, *, lease_gone: bool, waited: bool) -> Claimant:
        context, token = self._context, _token_of(record)
        if self._first_gone_s[0] != token:
            seen_s = context.view.gone_since_s(self._name, token)
            self._first_gone_s = (token, now_s() if seen_s is None else seen_s)
        named = {*record.peers, record.instance} if record is not None else set()
        return Claimant(
            # Whoever has our name gives the promises, and we know nothing of them.
            name=NOBODY if context.peers.name_is_taken else context.me,
            host=context.host,
            now_s=now_s(),
            boot_s=context.boot_s,
            promised_until_s=self.promised_until_s,
            gone_since_s=self._first_gone_s[1],
            lease_gone=lease_gone,
            refused=bool(named & context.peers.refused_by(self._name, token)),
            waited=waited,
        )


def _token_of(record: Holder | None) -> int:
    return record.token if record is not None else 0
