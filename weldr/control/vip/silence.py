"""A holder that is silent: doubted, waited for, and at last to be unseated by whoever is next.

| step | what | what it proves |
| --- | --- | --- |
| silent | its heartbeats stay away, and no majority hears it (`rules.may_unseat`) | nothing |
| doubted | the record says that we do not hear it | no renewal after that counts |
| idle | etcd says for how long nobody has renewed its lease | nor was there one since then |
| over | its window has passed since the last renewal that may have counted | the address is gone |

A holder that lives takes the doubt away with its next renewal, and nothing has happened. Mode `fast` leaves out
all steps between the first and the last.

etcd tells what is left of a lease in whole seconds only. But the moment at which the number falls tells exactly
when the lease was renewed for the last time, and that is known long before the window is over.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from weldr.control.vip.context import Context
from weldr.control.vip.rules import may_unseat, window_over_s
from weldr.control.vip.seat import Seat
from weldr.etcd.answers import Header
from weldr.etcd.clock import now_s
from weldr.etcd.election import Confirmation, Contender, lease_idle_s
from weldr.etcd.errors import EtcdError
from weldr.model.vip_timing import wait_s
from weldr.model.vips import Holder, Vip, is_same_instance

logger = logging.getLogger(__name__)

_LOOK_S = 0.05
_BELIEVE_S = 30.0
"""For how long no doubt is cast anew on a holder that has proven that it lives."""


@dataclass(slots=True)
class _Doubt:
    token: int
    """Of the holder."""
    revision: int
    """Of the record that has it."""
    told: Header
    cast_s: float
    """When we knew that it was there."""
    over_s: float
    """When the holder's window is over."""


class Silence:
    """Of the holder of one virtual IP, in the eyes of a candidate that does not hold it."""

    def __init__(self, name: str, vip: Vip, context: Context, seat: Seat) -> None:
        self._name = name
        self._vip = vip
        self._context = context
        self._seat = seat
        self._timing = vip.timing()
        self._doubt: _Doubt | None = None
        self._believe_until_s = 0.0
        self._believed_token = 0

    def start_over(self) -> None:
        """etcd may be another one: its tokens may be those of the past again."""
        self._doubt, self._believed_token = None, 0

    def may_act(self, record: Holder, queue: Sequence[Contender]) -> bool:
        """Whether a look at etcd would end with a doubt or more, by what the watch has told."""
        if len(queue) < 2 or not self._seat.is_mine(queue[1]):
            return False
        return self._is_silent(record, queue)

    async def listen(self, confirmation: Confirmation) -> Contender | float:
        """The holder if it may be unseated now, or how long to pause.

        Raises `EtcdError`.
        """
        record = self._seat.record.holder
        if self._doubt is not None and (record is None or record.token != self._doubt.token):
            self._doubt = None
        if self._doubt is not None and record is not None and record.doubted != self._context.me:
            # The holder lives, though we do not hear it. Once is enough for now.
            self._believed_token, self._doubt = self._doubt.token, None
            self._believe_until_s = now_s() + _BELIEVE_S
        if record is None or not self._is_silent(record, confirmation.queue):
            return self._timing.following_renewal_s
        if self._vip.failover == "strict":
            doubt = self._doubt
            if doubt is None or doubt.revision != self._seat.record.revision:
                doubt = await self._cast(record)
            if doubt is None:
                return self._timing.renewal_s
            await self._learn_last_renewal(doubt, record)
            left_s = doubt.over_s - now_s()
            if left_s > 0:
                return max(0.001, min(left_s, _LOOK_S))
        return confirmation.queue[0]

    def _is_silent(self, record: Holder, queue: Sequence[Contender]) -> bool:
        if self._vip.failover == "lease" or record.state != "held":
            return False
        if record.token != queue[0].token or queue[1].token != self._seat.token:
            return False
        if not is_same_instance(record, self._context.me, self._context.machine):
            return False
        hearing, now = self._context.peers.hearing, now_s()
        silent_s = hearing.silence_of_holder_s(record.instance, self._name, record.token)
        heard_by, known = hearing.heard_by(record.instance), hearing.heard_now()
        if not may_unseat(record, self._context.me, silent_s, heard_by, known):
            return False
        forgotten_s = self._context.boot_s + wait_s(record.promise_s)
        believe_until_s = self._believe_until_s if record.token == self._believed_token else 0.0
        return now >= max(forgotten_s, self._context.book.until_s(self._name), believe_until_s)

    async def _cast(self, record: Holder) -> _Doubt | None:
        """Say in the record that we do not hear the holder; `None` if it changed meanwhile."""
        extra = {"vip": self._name, "holder": record.instance}
        logger.warning("the holder of a virtual IP is silent: it is doubted", extra=extra)
        self._seat.busy = True
        done = await self._seat.confirm([self._seat.record.unchanged], [self._seat.record.doubted()])
        changed = self._seat.record.holder
        if changed is None or changed.doubted != self._context.me:
            return None
        now, revision = now_s(), self._seat.record.revision
        self._doubt = _Doubt(changed.token, revision, done.header, now, now + wait_s(changed.window_s))
        return self._doubt

    async def _learn_last_renewal(self, doubt: _Doubt, record: Holder) -> None:
        if doubt.over_s < doubt.cast_s + wait_s(record.window_s):
            return
        idle_s = 0.0
        with contextlib.suppress(EtcdError):
            idle_s = await lease_idle_s(
                self._context.client, record.lease, doubt.told, timeout_s=self._timing.request_timeout_s
            )
        doubt.over_s = window_over_s(doubt.cast_s, now_s(), idle_s, record.window_s)
