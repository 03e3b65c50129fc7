"""How an instance that leads, and has been told that the address is free, claims it.

The network is asked first where the address may be at a host that etcd does not know. The claim itself is one
transaction, which compares all that it was judged by. One that is answered too late is of no use: whoever makes
such claims leaves the others the time to make theirs.
"""

from __future__ import annotations

import random

from weldr.control.announce.announcer import AnnounceError
from weldr.control.vip.context import Context
from weldr.control.vip.holding import Holding
from weldr.control.vip.judge import Judge
from weldr.control.vip.seat import Seat
from weldr.control.vip.wanted import chosen
from weldr.etcd.client import Compare, Delete
from weldr.etcd.clock import now_s
from weldr.etcd.election import Contender
from weldr.etcd.operations import Operation
from weldr.model.keys import Kind
from weldr.model.vips import Vip

_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0
_CONFLICT_S = 10.0
_MOST_LATE_CLAIMS, _MOST_REFUSED_CLAIMS = 4, 20
_ASIDE_S = 10.0


class Claiming:
    """Of one virtual IP, with our place in its queue."""

    def __init__(
        self, name: str, vip: Vip, context: Context, seat: Seat, judge: Judge, holding: Holding
    ) -> None:
        self._name = name
        self._vip = vip
        self._context = context
        self._seat = seat
        self._record = seat.record
        self._judge = judge
        self._holding = holding
        self._vip_key = context.keys.key(Kind.VIP, name)
        self.probed = False
        """Whether no other host answers for the address."""
        self._late_claims = self._refused_claims = 0
        """In a row."""
        self._from_s = 0.0

    def note_other_leads(self) -> None:
        """Another one does: the next claim is another matter."""
        self._late_claims = self._refused_claims = 0

    async def claim(self, *, unseating: Contender | None = None) -> float | None:
        """`None` once it is ours, by this claim; else how long to wait before the next attempt.

        `unseating` loses its place in the same transaction.

        Raises `EtcdError`, and `CandidacyLostError` if it no longer stands.
        """
        if unseating is None and self._has_to_probe():
            await self._probe()
            return 0.0
        if self._judge.promised_until_s > now_s():
            return _RETRY_S
        if now_s() < self._from_s:
            return self._from_s - now_s()
        vips = self._context.view.vips
        wanted = vips.get(self._name)
        if wanted is None or wanted.vip != self._vip or self._name not in chosen(vips)[0]:
            return _RETRY_S  # about to end
        self._seat.busy = True
        # What is wanted may have changed without our knowledge: the address may be another key's by now.
        compares = [self._record.unchanged, Compare.mod_revision(self._vip_key, "==", wanted.revision)]
        compares += self._judge.others_unchanged()
        held, asked = self._holding.hold is not None, self._record.named
        claimed = self._record.claimed(self._seat.token or 0, self._seat.lease_id, held=held)
        operations: list[Operation] = [claimed]
        if self._record.named - asked:
            self._holding.forget_promises()
        if unseating is not None:
            compares.append(Compare.create_revision(unseating.key, "==", unseating.token))
            operations.append(Delete(unseating.key))
        alone = not self._record.of_this_host(self._holding.last_held)
        done = await self._seat.confirm(compares, operations)
        is_ours = done.held and done.leads
        if is_ours:
            self._holding.acquire(done, alone=alone)
        if self._holding.hold is not None:
            self._late_claims = self._refused_claims = 0
            return None if is_ours else self._vip.timing().renewal_s
        others_stand = self._context.others_in(done.queue)
        if not done.held:
            return self._try_again(others_stand=others_stand)
        return self._put_off(others_stand=others_stand)

    def _has_to_probe(self) -> bool:
        """Whether nobody has held it for as long as we know: some other host may have it by now."""
        if self.probed or self._holding.hold is not None:
            return False
        return self._context.view.held.get(self._name) != self._vip.ip or self._judge.may_have_a_namesake

    async def _probe(self) -> None:
        try:
            conflict = await self._holding.conflict()
        except AnnounceError as error:
            self._holding.fail(str(error))
            return
        if conflict is not None and self._vip.on_conflict == "report":
            # Asked again before the next attempt: the other one may well be there for good.
            self._holding.fail(f"{conflict}: not claimed", _CONFLICT_S)
        else:
            self.probed = True

    def _try_again(self, *, others_stand: bool) -> float:
        """Something has changed since what we know: the watch will tell, unless it is far behind."""
        self._refused_claims += 1
        if others_stand and self._refused_claims >= _MOST_REFUSED_CLAIMS:
            self._refused_claims = 0
            self._holding.fail("etcd tells this instance too late what has changed", _ASIDE_S)
        return _RETRY_S

    def _put_off(self, *, others_stand: bool) -> float:
        """It came too late to be of use: etcd is slow, so no hurry with the next one. The claim itself comes
        back by the watch and wakes us, and many who hurry keep etcd slow."""
        if others_stand and self._late_claims >= _MOST_LATE_CLAIMS and not self._holding.problem:
            # It is far from etcd, or has no time: others may be better off.
            self._late_claims = 0
            self._holding.fail("etcd's answers come too late to hold an address by them", _ASIDE_S)
            return 0.0
        pause_s: float = min(_RETRY_S * 2**self._late_claims, _LONGEST_RETRY_S) * random.uniform(0.5, 1.0)
        self._late_claims = min(self._late_claims + 1, 10)
        self._from_s = now_s() + pause_s
        return pause_s
