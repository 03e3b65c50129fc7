"""The members of etcd, each asked by itself."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from weldr.cli.diagnosis.finding import Finding, Level
from weldr.etcd.config import Endpoint, EtcdConfig
from weldr.etcd.errors import EtcdError
from weldr.etcd.maintenance import MemberReport, ask_member

_AREA = "etcd"
_SOUND = (3, 5, 23)
_SLOW_READ_S, _SLOW_WRITE_S = 0.05, 0.1
_DEFAULT_QUOTA_BYTES = 2 * 1024**3
_FULL, _NEARLY_FULL = 0.95, 0.8
_WORTH_DEFRAGMENTING_BYTES = 100 * 1024**2
_FAR_BEHIND = 5000
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Asked:
    """A member's answer, or why there is none. With neither, it answers but this user may not ask."""

    endpoint: Endpoint
    report: MemberReport | None
    reason: str


async def ask_members(config: EtcdConfig) -> list[Asked]:
    """All of them, at the same time."""
    return list(await asyncio.gather(*(_ask(endpoint, config) for endpoint in config.endpoints)))


async def _ask(endpoint: Endpoint, config: EtcdConfig) -> Asked:
    try:
        report = await ask_member(endpoint, config)
    except EtcdError as error:
        return Asked(endpoint, None, getattr(error, "reason", str(error)))
    return Asked(endpoint, report, "")


def judge_members(asked: Sequence[Asked]) -> list[Finding]:
    """What their answers say. Pure."""
    findings = [_unreachable(each) for each in asked if each.reason]
    silent = [str(each.endpoint) for each in asked if each.report is None and not each.reason]
    if silent:
        text = f"{', '.join(silent)}: this user may not ask for the state of members"
        findings.append(Finding(Level.UNKNOWN, _AREA, text, "give a user with the role root to see it"))
    reports = [(str(each.endpoint), each.report) for each in asked if each.report is not None]
    for name, report in reports:
        findings += _judge_one(name, report)
    findings += _judge_together(reports)
    if len(asked) == 1:
        findings.append(
            Finding(
                Level.WARNING,
                _AREA,
                "one endpoint is named: when that member is away, weldr can change nothing",
                "name all members in --etcd; three on three machines outlive the loss of one",
            )
        )
    return findings


def _unreachable(asked: Asked) -> Finding:
    return Finding(
        Level.ERROR,
        _AREA,
        f"{asked.endpoint} does not answer: {asked.reason}",
        f"is it running and its client port open? etcdctl --endpoints={asked.endpoint} endpoint health",
    )


def _judge_one(name: str, report: MemberReport) -> list[Finding]:
    findings = []
    version = tuple(int(part) for part in report.version.split("-")[0].split(".") if part.isdigit())
    if version and version < _SOUND:
        findings.append(
            Finding(
                Level.WARNING,
                _AREA,
                f"{name} runs etcd {report.version}, which can lose events and renew revoked leases",
                "upgrade to 3.5.23 or newer, one member at a time",
            )
        )
    if not report.leader:
        findings.append(
            Finding(
                Level.ERROR,
                _AREA,
                f"{name} has no leader",
                "most members have to be up: look at the others first",
            )
        )
    if report.is_learner:
        findings.append(
            Finding(
                Level.WARNING, _AREA, f"{name} is a learner, which serves nobody", "etcdctl member promote ID"
            )
        )
    for alarm in report.alarms:
        findings.append(_alarm(name, alarm))
    findings += _judge_size(name, report)
    if not findings:
        size = f"{report.database_bytes / _MIB:.0f} MiB"
        findings.append(Finding(Level.OK, _AREA, f"{name}: etcd {report.version}, {size}"))
    return findings


def _alarm(name: str, alarm: str) -> Finding:
    if alarm == "NOSPACE":
        what = "its database is full: it takes no writes, so leases and registrations end"
        do = "etcdctl compact REVISION; etcdctl defrag; raise --quota-backend-bytes; then etcdctl alarm disarm"
    else:
        what = f"it has the alarm {alarm}: members do not have the same data"
        do = "take the member out, empty its data directory, add it anew; if most are corrupt, restore a backup"
    return Finding(Level.ERROR, _AREA, f"{name}: {what}", do)


def _judge_size(name: str, report: MemberReport) -> list[Finding]:
    quota = report.quota_bytes or _DEFAULT_QUOTA_BYTES
    used = report.database_bytes / quota
    sure = "" if report.quota_bytes else ", if its quota is etcd's default"
    text = f"{name}: the database takes {used:.0%} of its quota of {quota / _MIB:.0f} MiB{sure}"
    do = "etcdctl compact and defrag; --auto-compaction-retention=1h; a higher --quota-backend-bytes"
    if used > _NEARLY_FULL:
        return [Finding(Level.ERROR if used > _FULL and report.quota_bytes else Level.WARNING, _AREA, text, do)]
    loose = report.database_bytes - report.in_use_bytes
    if report.in_use_bytes and loose > max(_WORTH_DEFRAGMENTING_BYTES, report.database_bytes / 2):
        text = f"{name}: {loose / _MIB:.0f} MiB of its database are unused"
        return [Finding(Level.WARNING, _AREA, text, f"etcdctl --endpoints={name} defrag, one member at a time")]
    return []


def _judge_together(reports: Sequence[tuple[str, MemberReport]]) -> list[Finding]:
    findings = []
    if len({report.cluster_id for _, report in reports}) > 1:
        names = ", ".join(name for name, _ in reports)
        do = "name the members of one cluster only in --etcd"
        findings.append(Finding(Level.ERROR, _AREA, f"{names} belong to different clusters", do))
    elif len({report.leader for _, report in reports if report.leader}) > 1:
        do = "an election is under way, or members cannot reach each other: look again, then at their network"
        findings.append(Finding(Level.WARNING, _AREA, "the members do not agree on their leader", do))
    indexes = [report.raft_index for _, report in reports]
    if indexes and max(indexes) - min(indexes) > _FAR_BEHIND:
        name = min(reports, key=lambda each: each[1].raft_index)[0]
        do = "look at its disk (etcd_disk_wal_fsync_duration_seconds) and its network"
        findings.append(
            Finding(Level.WARNING, _AREA, f"{name} is {max(indexes) - min(indexes)} entries behind", do)
        )
    return findings


def judge_latency(reads_s: Sequence[float], writes_s: Sequence[float]) -> list[Finding]:
    """What linearizable reads, and writes through the members' logs, took. Pure."""
    findings = []
    for what, taken, limit_s in (("read", reads_s, _SLOW_READ_S), ("write", writes_s, _SLOW_WRITE_S)):
        if not taken:
            continue
        middle_s = statistics.median(taken)
        text = (
            f"a {what} takes {middle_s * 1000:.1f} ms, at most {max(taken) * 1000:.1f} ms ({len(taken)} tries)"
        )
        if middle_s > limit_s:
            do = "etcd wants a disk of its own that syncs within 10 ms, and members within a few milliseconds"
            findings.append(Finding(Level.WARNING, _AREA, text, do))
        else:
            findings.append(Finding(Level.OK, _AREA, text))
    return findings
