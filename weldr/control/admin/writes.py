"""How the API writes: validated before, in one transaction, noted in the log, seen by whoever reads after."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus

from weldr.control.admin.guard import Caller
from weldr.control.admin.mirror import Mirror
from weldr.control.admin.problem import ProblemError
from weldr.control.certificates import validate
from weldr.etcd.answers import LeaseGrant
from weldr.etcd.client import EtcdClient
from weldr.etcd.commit import Committed, Decide, Outcome, commit
from weldr.etcd.errors import EtcdError, EtcdLeaseNotFoundError
from weldr.etcd.operations import Compare, Put
from weldr.model.collections import path_of
from weldr.model.decode import Fault
from weldr.model.documents import same
from weldr.model.edits import Action
from weldr.model.keys import KeyName, KeySpace

logger = logging.getLogger(__name__)

# A write is answered when this instance has seen it, so that its writer reads what it wrote, or soon after.
_SEEN_LIMIT_S = 2.0
_REGISTRATION_ATTEMPTS = 10


class Writes:
    """Owner of all that the API changes in etcd."""

    def __init__(
        self, client: EtcdClient, keys: KeySpace, mirror: Mirror, on_written: Callable[[int], None]
    ) -> None:
        """`on_written` is told the revision of each write."""
        self._client = client
        self._keys = keys
        self._mirror = mirror
        self._on_written = on_written

    async def commit(
        self, names: Sequence[KeyName], decide: Decide, caller: Caller, *, dry_run: bool = False
    ) -> Committed:
        """Make edits at one instant; see `weldr.etcd.commit`."""
        committed = await commit(self._client, self._keys, names, decide, dry_run=dry_run)
        if not dry_run and committed.wrote:
            for found in committed.outcomes:
                if found.action is not Action.KEEP:
                    _audit(caller, found.action, found.name, found.old_revision, found.new_revision)
            await self._seen(committed.revision)
        return committed

    async def register(
        self, name: KeyName, raw: bytes, ttl_s: int, caller: Caller, check: Callable[[int], None]
    ) -> tuple[Committed, int]:
        """Have a key live for `ttl_s` from now; the time that it got from etcd, which may be longer.

        Nothing is kept here: the key's lease is found with the key. So any instance can take the next
        heartbeat, and none has to live for the registration to. `check` is given the key's revision.
        """
        key = self._keys.key(name.kind, *name.names)
        unused: LeaseGrant | None = None
        try:
            for _ in range(_REGISTRATION_ATTEMPTS):
                pair = await self._client.get(key)
                old_revision = pair.mod_revision if pair else 0
                check(old_revision)
                try:
                    if pair is not None and pair.lease and same(pair.value, raw):
                        renewed = await self._client.renew_lease(pair.lease)
                        return _unchanged(name, old_revision, self._mirror.revision), renewed.ttl_s
                    # Another value gets another lease: the key's own may be kept alive by whoever wrote the
                    # old value, and this one is to live by its own heartbeats only.
                    granted = unused or await self._client.grant_lease(ttl_s)
                    unused = None
                    unchanged = Compare.mod_revision(key, "==", old_revision)
                    result = await self._client.transaction([unchanged], [Put(key, raw, lease=granted.id)])
                except EtcdLeaseNotFoundError:
                    continue
                if result.succeeded:
                    revision = result.header.revision
                    action = Action.UPDATE if pair else Action.CREATE
                    _audit(caller, action, name, old_revision, revision)
                    await self._seen(revision)
                    outcome = Outcome(name, action, old_revision, revision)
                    return Committed(revision, (outcome,)), granted.ttl_s
                unused = granted
        finally:
            if unused is not None:
                with contextlib.suppress(EtcdError):
                    await self._client.revoke_lease(unused.id)
        raise ProblemError(HTTPStatus.CONFLICT, f"others write {path_of(name)} at the same time: try again")

    async def _seen(self, revision: int) -> None:
        self._on_written(revision)
        await self._mirror.reached(revision, _SEEN_LIMIT_S)


def checked(name: KeyName, raw: bytes) -> bytes:
    """The value, if the catalog will understand it.

    Raises `ProblemError` with the place in the value.
    """
    found = validate(name.kind, raw)
    if isinstance(found, Fault):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the value of {path_of(name)} cannot be understood, at {found.place}: {found.reason}",
            key=path_of(name),
            place=found.place,
            reason=found.reason,
        )
    return raw


def of_etcd(error: EtcdError) -> ProblemError:
    """The problem of a request that etcd did not do."""
    detail = str(error)
    if error.maybe_applied:
        detail += "; whether the change was made is not known: read it"
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "1"})


def _audit(caller: Caller, action: Action, name: KeyName, old_revision: int, new_revision: int) -> None:
    logger.info(
        "a key was written by the API",
        extra={
            "who": caller.name,
            "from": caller.address,
            "action": action.value,
            "key": path_of(name),
            "old_revision": old_revision,
            "new_revision": new_revision,
        },
    )


def _unchanged(name: KeyName, revision: int, now: int) -> Committed:
    return Committed(now, (Outcome(name, Action.KEEP, revision, revision),))
