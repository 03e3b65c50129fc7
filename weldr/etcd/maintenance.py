"""What a single member says of itself, for a diagnosis: a client asks whichever member answers."""

from __future__ import annotations

from dataclasses import dataclass

from weldr.etcd.config import Endpoint, EtcdConfig
from weldr.etcd.errors import EtcdAuthError
from weldr.etcd.protocol import rpc
from weldr.etcd.session import OPEN_TIMEOUT_S, Session


@dataclass(frozen=True, slots=True)
class MemberReport:
    """One member's word about itself."""

    version: str
    cluster_id: int
    leader: int
    """0 while it knows of none."""
    is_learner: bool
    raft_index: int
    database_bytes: int
    in_use_bytes: int
    """0 where it does not say."""
    quota_bytes: int
    """0 where it does not say, which only 3.6 and newer do."""
    alarms: tuple[str, ...]


async def ask_member(endpoint: Endpoint, config: EtcdConfig) -> MemberReport | None:
    """Ask this member, with a login of its own if there is a user; `None` if that one may not ask.

    Raises `EtcdError`.
    """
    token: str | None = None
    session = Session.unchecked(endpoint, config, lambda: token)
    try:
        if config.user:
            token = await session.authenticate(config)
        try:
            status = await session.call(
                session.maintenance.Status, rpc.StatusRequest(), OPEN_TIMEOUT_S, require_leader=False
            )
        except EtcdAuthError:
            return None
        return MemberReport(
            version=status.version,
            cluster_id=status.header.cluster_id,
            leader=status.leader,
            is_learner=status.isLearner,
            raft_index=status.raftIndex,
            database_bytes=status.dbSize,
            in_use_bytes=status.dbSizeInUse,
            quota_bytes=status.dbSizeQuota,
            alarms=await _alarms(session),
        )
    finally:
        await session.close()


async def _alarms(session: Session) -> tuple[str, ...]:
    request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
    try:
        answer = await session.call(session.maintenance.Alarm, request, OPEN_TIMEOUT_S, require_leader=False)
    except EtcdAuthError:
        # Only root may ask.
        return ()
    return tuple(sorted({rpc.AlarmType.Name(alarm.alarm) for alarm in answer.alarms}))
