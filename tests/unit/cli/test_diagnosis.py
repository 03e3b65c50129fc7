"""What the doctor makes of what it has seen."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import pytest

from weldr.cli.diagnosis.cluster import judge_instances
from weldr.cli.diagnosis.finding import Finding, Level, in_order
from weldr.cli.diagnosis.machine import judge_capabilities, judge_identity, judge_machine, judge_sysctls
from weldr.cli.diagnosis.members import Asked, judge_latency, judge_members
from weldr.control.listeners import ListenAddress
from weldr.etcd.config import EtcdConfig
from weldr.etcd.maintenance import MemberReport
from weldr.model.values import Instance

MIB = 1024**2


def asked(*reports: MemberReport | str) -> list[Asked]:
    urls = ",".join(f"http://10.0.0.{number}:2379" for number in range(1, len(reports) + 1))
    return [
        Asked(endpoint, None, report) if isinstance(report, str) else Asked(endpoint, report, "")
        for endpoint, report in zip(EtcdConfig.from_text(urls).endpoints, reports, strict=True)
    ]


def report(**facts: Any) -> MemberReport:
    known: dict[str, Any] = {
        "version": "3.5.30",
        "cluster_id": 1,
        "leader": 7,
        "is_learner": False,
        "raft_index": 100,
        "database_bytes": 10 * MIB,
        "in_use_bytes": 9 * MIB,
        "quota_bytes": 0,
        "alarms": (),
    }
    return MemberReport(**known | facts)


def bad(findings: list[Finding]) -> list[tuple[Level, str]]:
    assert all(finding.do for finding in findings if finding.level in (Level.ERROR, Level.WARNING))
    return [(finding.level, finding.found) for finding in findings if finding.level is not Level.OK]


def test_three_sound_members_are_fine() -> None:
    assert bad(judge_members(asked(report(), report(), report()))) == []


@pytest.mark.parametrize(
    ("facts", "level", "words"),
    [
        ({"version": "3.5.1"}, Level.WARNING, "3.5.1"),
        ({"leader": 0}, Level.ERROR, "no leader"),
        ({"is_learner": True}, Level.WARNING, "learner"),
        ({"alarms": ("NOSPACE",)}, Level.ERROR, "full"),
        ({"alarms": ("CORRUPT",)}, Level.ERROR, "CORRUPT"),
        ({"database_bytes": 1900 * MIB}, Level.WARNING, "93% of its quota"),
        ({"database_bytes": 99 * MIB, "quota_bytes": 100 * MIB}, Level.ERROR, "99% of its quota"),
        (
            {"database_bytes": 500 * MIB, "in_use_bytes": 10 * MIB},
            Level.WARNING,
            "490 MiB of its database",
        ),
        ({"cluster_id": 2}, Level.ERROR, "different clusters"),
        ({"leader": 8}, Level.WARNING, "do not agree on their leader"),
        ({"raft_index": 99_000}, Level.WARNING, "entries behind"),
    ],
)
def test_what_is_wrong_with_a_member_is_told(facts: dict[str, Any], level: Level, words: str) -> None:
    ((found_level, text),) = bad(judge_members(asked(report(), report(), report(**facts))))
    assert found_level is level
    assert words in text


def test_a_member_that_does_not_answer_is_an_error_and_a_single_one_a_warning() -> None:
    assert [level for level, _ in bad(judge_members(asked(report(), "refused")))] == [Level.ERROR]
    assert [level for level, _ in bad(judge_members(asked(report())))] == [Level.WARNING]


def test_slow_answers_are_told_by_the_middle_of_all_tries() -> None:
    assert bad(judge_latency([0.001, 0.9, 0.001], [0.002])) == []
    assert [level for level, _ in bad(judge_latency([0.001], [0.2, 0.3, 0.001]))] == [Level.WARNING]


def test_the_worst_comes_first_and_else_what_was_looked_at_first() -> None:
    levels = [Level.OK, Level.WARNING, Level.ERROR, Level.WARNING]
    findings = [Finding(level, "area", str(number)) for number, level in enumerate(levels)]
    assert [finding.found for finding in in_order(findings)] == ["2", "1", "3", "0"]


def test_settings_of_the_kernel_that_are_too_low_are_told_with_the_command() -> None:
    values = {
        "net/core/somaxconn": "128",
        "net/ipv4/ip_local_port_range": "32768\t40000",
        "net/netfilter/nf_conntrack_count": "95",
        "net/netfilter/nf_conntrack_max": "100",
    }
    findings = judge_sysctls(values.get)
    assert len(bad(findings)) == 3
    assert "sysctl -w net.core.somaxconn=4096" in [finding.do for finding in findings]
    assert bad(judge_sysctls(lambda name: None)) == []


def test_capabilities_matter_for_virtual_ips_only() -> None:
    assert judge_capabilities(set(), has_virtual_ips=False) == []
    assert "CAP_NET_ADMIN" in bad(judge_capabilities({"NET_RAW"}, has_virtual_ips=True))[0][1]
    assert bad(judge_capabilities({"NET_RAW", "NET_ADMIN"}, has_virtual_ips=True)) == []


def test_a_port_that_another_program_has_is_told_with_its_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        addresses = [ListenAddress("127.0.0.1", port), ListenAddress("203.0.113.1", 80)]
        found = [
            each for each in judge_machine(has_virtual_ips=False, addresses=addresses) if each.area == "ports"
        ]
    assert f"127.0.0.1:{port} " in found[0].found
    assert "cannot be listened on" in found[1].found
    assert found[1].level is Level.ERROR


def test_instances_that_differ_are_told() -> None:
    def instance(**facts: Any) -> Instance:
        known: dict[str, Any] = {"version": "1", "addresses": [], "admin": "127.0.0.1:1", "applied": 5}
        return Instance(started=datetime.now(UTC), **known | facts)

    assert bad(judge_instances({"a": instance(), "b": instance()})) == []
    assert len(bad(judge_instances({}))) == 1
    differing = {"a": instance(version="2"), "b": instance(applied=4, problem_count=1, problems=["x is wrong"])}
    text = " ".join(words for _, words in bad(judge_instances(differing)))
    for words in ("versions 1, 2", "b serves revision 4", "x is wrong"):
        assert words in text


def test_a_machine_that_nobody_knows_after_a_restart_is_warned_of_where_there_are_virtual_ips() -> None:
    assert "machine-id" in bad(judge_identity(has_machine_id=False, has_virtual_ips=True))[0][1]
    assert judge_identity(has_machine_id=True, has_virtual_ips=True) == []
    assert judge_identity(has_machine_id=False, has_virtual_ips=False) == []
