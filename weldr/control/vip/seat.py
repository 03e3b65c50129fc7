"""This instance's place in the queue for one virtual IP, and what etcd says of it."""

from __future__ import annotations

from collections.abc import Sequence

from weldr.control.vip.context import Context
from weldr.control.vip.record import Record
from weldr.etcd.client import Compare, EtcdClient
from weldr.etcd.election import CandidacyLostError, Candidate, Confirmation, Contender
from weldr.etcd.operations import Operation
from weldr.model.keys import Kind
from weldr.model.takeover import Candidacy
from weldr.model.vips import Vip


class Seat:
    """Candidate and record are always read together, in one transaction."""

    def __init__(self, name: str, vip: Vip, context: Context) -> None:
        self.record = Record(name, vip, context)
        self.busy = False
        """Whether a claim or a doubt of ours is under way: nothing may be promised to anybody else."""
        self.timeout_s = vip.timing().request_timeout_s
        prefix = context.keys.of_kind(Kind.ELECTION, name)
        self._candidate = Candidate(context.client, prefix, context.me.encode(), vip.ttl_s)
        self._me = context.me
        self.client: EtcdClient = context.client

    @property
    def token(self) -> int | None:
        """Of the present candidacy; `None` if it does not stand."""
        return self._candidate.token

    @property
    def lease_id(self) -> int:
        """The candidacy's lease; 0 if there is none."""
        return self._candidate.lease_id or 0

    def is_mine(self, contender: Contender) -> bool:
        """Whether that is our present candidacy."""
        return contender.token == self.token and contender.key == self._candidate.key

    def candidacy(self, name: str, vip: Vip) -> Candidacy | None:
        """For another manager of this instance to go on with; `None` if it does not stand."""
        lease, token = self._candidate.lease_id, self._candidate.token
        if lease is None or token is None:
            return None
        return Candidacy(vip=name, value=vip, lease=lease, ttl_s=self._candidate.granted_ttl_s, token=token)

    def adopt(self, candidacy: Candidacy) -> None:
        """Go on with a place that another manager of this instance has."""
        self._candidate.adopt(candidacy.lease, candidacy.ttl_s, candidacy.token)

    async def stand(self) -> None:
        """Join the queue. Raises `EtcdError`."""
        await self._candidate.stand(timeout_s=self.timeout_s)

    async def confirm(
        self, compares: Sequence[Compare] = (), operations: Sequence[Operation] = ()
    ) -> Confirmation:
        """Renew, read the queue and the record, and do `operations` if `compares` hold.

        Raises `EtcdError`, and `CandidacyLostError` if it no longer stands.
        """
        try:
            confirmation = await self._candidate.confirm(
                compares, operations, [self.record.key], timeout_s=self.timeout_s
            )
        except CandidacyLostError:
            # No claim or doubt of it can be applied any more: each compares its key.
            self.busy = False
            raise
        self.record.note(confirmation.read[0])
        # Whatever became of a claim or a doubt whose answer was lost, this tells.
        self.busy = self.record.holder is not None and self.record.holder.doubted == self._me
        return confirmation

    async def withdraw(self, compares: Sequence[Compare] = (), operations: Sequence[Operation] = ()) -> None:
        """Leave the queue. Raises `EtcdError`."""
        await self._candidate.withdraw(compares, operations, timeout_s=self.timeout_s)
        # A claim or a doubt whose answer was lost compares our key, which is gone: it cannot be applied later.
        self.busy = False

    async def close(self, timeout_s: float) -> None:
        """Leave for good."""
        await self._candidate.close(timeout_s=timeout_s)
