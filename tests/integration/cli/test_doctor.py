"""`weldr doctor` on a real etcd: sound, absent, full, and with a user that may do too little."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.cli.conftest import LIMIT_S, Shell
from tests.support.etcd import EtcdServer
from tests.support.instance import wait_until
from tests.support.ports import free_port


def doctor(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit status, and what it found."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "weldr", "doctor", "-o", "json", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


def errors(findings: list[dict[str, Any]]) -> list[str]:
    return [finding["found"] for finding in findings if finding["level"] == "error"]


def test_a_sound_cluster_has_no_errors_and_nothing_is_left_behind(shell: Shell) -> None:
    before = shell.etcd.etcdctl("get", "--prefix", shell.prefix, "--keys-only")
    addresses = ("--listen", shell.weldr.address, "--listen", shell.weldr.admin)
    status, findings = doctor(*shell.options("etcd"), *addresses)
    assert (status, errors(findings)) == (0, [])
    said = " ".join(finding["found"] for finding in findings)
    for words in ("a write takes", "may read the prefix", "0 errors, 0 warnings", "belongs to weldr"):
        assert words in said
    assert shell.etcd.etcdctl("get", "--prefix", shell.prefix, "--keys-only") == before
    order = [finding["level"] for finding in findings]
    assert order == sorted(order, key=["error", "warning", "ok", "unknown"].index)


def test_people_get_a_table_and_the_numbers(shell: Shell) -> None:
    done = shell.run("doctor")
    assert done.status == 0
    assert "errors, " in done.error
    assert all(line.count("\t") == 3 for line in done.output.splitlines())


def test_keys_that_are_wrong_are_an_error(shell: Shell) -> None:
    shell.put("services/broken", "{")
    status, findings = doctor(*shell.options("etcd"))
    assert status == 1
    assert any("1 errors" in text for text in errors(findings))
    shell.etcd.etcdctl("del", shell.prefix + "services/broken")


def test_an_etcd_that_is_away_is_the_first_thing_told() -> None:
    status, findings = doctor("--etcd", f"http://127.0.0.1:{free_port()}")
    assert status == 1
    assert "does not answer" in findings[0]["found"]
    assert findings[0]["do"]


@pytest.fixture
def own_etcd() -> Any:
    with EtcdServer(None, "--quota-backend-bytes=1000000", "--bcrypt-cost=4") as server:
        yield server


def test_a_full_etcd_is_told_with_what_to_do(own_etcd: EtcdServer) -> None:
    def is_full() -> bool:
        own_etcd.etcdctl("put", "/filling/one", stdin_bytes=b"x" * 200_000, check=False)
        return "NOSPACE" in own_etcd.etcdctl("alarm", "list")

    wait_until(is_full, "etcd's space is exceeded")
    status, findings = doctor("--etcd", own_etcd.endpoint)
    assert status == 1
    assert any("its database is full" in text for text in errors(findings))
    assert "alarm disarm" in findings[0]["do"]


def test_a_user_without_permission_is_told_what_to_grant(own_etcd: EtcdServer) -> None:
    for command in (
        "user add root:rootpw",
        "user grant-role root root",
        "role add reader",
        "role grant-permission --prefix reader read /weldr/",
        "user add reader:pw",
        "user grant-role reader reader",
        "auth enable",
    ):
        own_etcd.etcdctl(*command.split())
    status, findings = doctor("--etcd", own_etcd.endpoint, "--user", "reader:pw")
    assert status == 1
    assert any("/weldr/instances/" in text for text in errors(findings)), findings
    assert any("grant-permission" in finding["do"] for finding in findings)
