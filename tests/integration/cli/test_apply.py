"""`weldr apply|export|check|history|rollback`: sets of keys."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import yaml

from tests.integration.cli.conftest import Shell
from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.servers import named_servers

BOTH = pytest.mark.parametrize("via", ["etcd", "admin"])


@BOTH
def test_the_difference_is_shown_and_applied_at_one_instant(shell: Shell, file: Path, via: str) -> None:
    name = f"applied-{via}"
    file.write_text(
        f"routes: {{{name}: {{host: {name}.example, service: {name}}}}}\n"
        f"backends: {{{name}: {{b1: '127.0.0.1:1', b2: '127.0.0.1:2'}}}}\n"
    )
    before = shell.run("apply", "-f", str(file), "--check", via=via)
    assert (before.status, "+127.0.0.1:1" in before.output) == (1, True)
    assert shell.value(f"routes/{name}") == ""
    output = shell.good("apply", "-f", str(file), "--wait", via=via)
    assert "every instance serves it" in output
    items = json.loads(shell.good("get", f"backends/{name}", "-o", "json"))
    route = json.loads(shell.good("get", f"routes/{name}", "-o", "json"))
    assert {item["mod_revision"] for item in items} == {route["mod_revision"]}
    assert shell.good("apply", "-f", str(file), "--check", via=via).endswith("0 to remove\n")
    file.write_text(f"backends: {{{name}: {{b1: '127.0.0.1:9'}}}}\n")
    changed = shell.good("apply", "-f", str(file), via=via)
    assert "-127.0.0.1:1\n+127.0.0.1:9" in changed
    assert shell.value(f"backends/{name}/b2") == "127.0.0.1:2"


def test_what_is_exported_can_be_applied(etcd_server: EtcdServer, shell: Shell, file: Path) -> None:
    shell.good("put", "settings", '{"forwarded_fields": "both"}')
    shell.good("put", "backends/exported/a b", '{"url": "127.0.0.1:1", "weight": 3}')
    shell.good("put", "routes/exported", '{"service": "exported", "host": "no"}')
    file.write_text(shell.good("export"))
    assert shell.run("apply", "-f", str(file), "--prune", "--check").status == 0
    as_json = shell.good("export", "-o", "json", via="admin")
    assert json.loads(as_json) == yaml.safe_load(file.read_text())
    other = ["--etcd", etcd_server.endpoint, "--prefix", shell.prefix.rstrip("/") + "-copy/"]
    assert shell.run("apply", "-f", str(file), *other).status == 0
    assert json.loads(shell.run("export", "-o", "json", *other).output) == json.loads(as_json)
    shell.good("rm", "settings")


def test_prune_removes_what_the_files_lack_but_no_registration(
    etcd_server: EtcdServer, etcd_prefix: str, shell: Shell, file: Path
) -> None:
    alone = Shell(shell.weldr, etcd_server, etcd_prefix)
    lease = etcd_server.etcdctl("lease", "grant", "60").split()[1]
    alone.put("backends/s/registered", "127.0.0.1:1", f"--lease={lease}")
    for key in ("backends/s/old", "backends/other/old"):
        alone.put(key, "127.0.0.1:1")
    alone.put("services/kept", "{}")
    alone.put("overrides/s/old", '{"drain": true}')
    file.write_text("backends: {s: {new: '127.0.0.1:2'}}\n")
    assert "1 to create, 0 to change, 2 to remove" in alone.good("apply", "-f", str(file), "--prune")
    # A section without anything in it is none; an empty mapping means what it says.
    file.write_text("services:\n")
    assert "0 to remove" in alone.good("apply", "-f", str(file), "--prune")
    file.write_text("services: {}\n")
    assert alone.run("apply", "-f", str(file), "--prune", "--check").status == 1
    left = {item["key"] for item in json.loads(alone.good("get", "-o", "json"))}
    assert left == {"backends/s/registered", "backends/s/new", "services/kept", "overrides/s/old"}


def test_500_keys_are_one_instant_for_traffic(shell: Shell, file: Path) -> None:
    with named_servers("old", "new") as (old, new):
        shell.good("put", "backends/before/b1", old.address)
        shell.good("put", "routes/big", '{"host": "big.example", "service": "before"}')
        wait_until(lambda: shell.weldr.get(host="big.example") == (200, "old"), "the old service answers")
        keys = {
            "routes": {"big": {"host": "big.example", "service": "after"}},
            "backends": {"after": {f"b{number}": new.address for number in range(500)}},
        }
        file.write_text(yaml.safe_dump(keys))
        seen: list[tuple[int, str]] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                seen.append(shell.weldr.get(host="big.example"))

        asking = threading.Thread(target=ask)
        asking.start()
        output = shell.good("apply", "-f", str(file), "--wait")
        wait_until(lambda: (200, "new") in seen[-5:], "the new service answers")
        done.set()
        asking.join()
        assert "500 to create, 1 to change" in output
        assert "stage 5 of 5" in output
        assert set(seen) == {(200, "old"), (200, "new")}
        assert (200, "old") not in seen[seen.index((200, "new")) :]
    shell.good("rm", "routes/big")


def test_a_change_that_cannot_be_staged_is_refused_with_the_reason(shell: Shell, file: Path) -> None:
    keys = {"backends": {"default": {f"b{number}": "127.0.0.1:1" for number in range(200)}}}
    file.write_text(yaml.safe_dump(keys))
    done = shell.run("apply", "-f", str(file))
    assert done.status == 1
    assert "200 keys" in done.error
    assert "nothing was written" in done.error
    assert shell.value("backends/default/b0") == ""


@pytest.mark.real_time
def test_wait_names_the_instance_that_has_not_applied_it_and_why(shell: Shell, file: Path) -> None:
    with Instance("--instance", "stuck", etcd=shell.etcd.endpoint, prefix=shell.prefix) as stuck:
        stuck.wait_ready()
        (worker,) = stuck.worker_pids()
        try:
            os.kill(worker, signal.SIGSTOP)
            file.write_text("services: {waited: {limits: {pending_requests: 7}}}\n")
            done = shell.run("apply", "-f", str(file), "--wait", "--timeout", "1")
        finally:
            os.kill(worker, signal.SIGCONT)
        assert done.status == 1
        assert "stuck: its workers serve revision" in done.error
        assert "worker 0 is serving at" in done.error
        assert shell.weldr.name not in done.error
        assert "every instance serves it" in shell.good("apply", "-f", str(file), "--wait")


def test_a_wrong_file_is_told_in_one_line(shell: Shell, file: Path) -> None:
    file.write_text("routes: {a: {service: 5}}\n")
    for command in ("apply", "check"):
        done = shell.run(command, "-f", str(file))
        assert (done.status, done.error.count("\n")) == (1, 1)
        assert f"{file}, routes/a, at $.service" in done.error


def test_check_finds_what_is_wrong_in_etcd(etcd_server: EtcdServer, etcd_prefix: str, shell: Shell) -> None:
    alone = Shell(shell.weldr, etcd_server, etcd_prefix)
    alone.put("routes/lonely", '{"service": "nobody"}')
    alone.put("overrides/s/none", '{"drain": true}')
    warned = alone.run("check")
    assert (warned.status, warned.output.count("warning")) == (0, 2)
    alone.put("routes/wrong", '{"service": "x", "priority": "high"}')
    alone.put("nonsense", "x")
    done = alone.run("check", "-o", "json")
    errors = {found["key"]: found["place"] for found in json.loads(done.output) if found["level"] == "error"}
    assert (done.status, errors) == (1, {"routes/wrong": "$.priority", f"{etcd_prefix}nonsense": "key"})
    assert "0 errors" in shell.run("check", via="admin").error


@BOTH
def test_history_shows_changes_and_rollback_goes_back(
    etcd_server: EtcdServer, etcd_prefix: str, via: str
) -> None:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        _go_back(Shell(weldr, etcd_server, etcd_prefix), etcd_server, etcd_prefix, via)


def _go_back(alone: Shell, etcd_server: EtcdServer, etcd_prefix: str, via: str) -> None:
    lease = etcd_server.etcdctl("lease", "grant", "60").split()[1]
    alone.put("routes/r", '{"service": "one"}')
    alone.put("services/one", "{}")
    revision = json.loads(alone.good("get", "services/one", "-o", "json"))["mod_revision"]
    alone.put("routes/r", '{"service": "two"}')
    etcd_server.etcdctl("del", etcd_prefix + "services/one")
    alone.put("services/two", "{}")
    alone.put("backends/two/registered", "127.0.0.1:1", f"--lease={lease}")
    history = alone.good("history", via=via)
    assert history.count("revision ") == 5
    assert "-service: one\n+service: two" in history
    assert "registered" not in history
    shown = alone.good("rollback", str(revision), "--dry-run", via=via)
    assert "1 to create, 1 to change, 1 to remove" in shown
    assert json.loads(alone.value("routes/r")) == {"service": "two"}
    alone.good("rollback", str(revision), via=via)
    assert alone.good("history", "routes/r", via=via).count("revision ") == 3
    told = json.loads(alone.good("history", "routes/r", "-n", "1", "-o", "json", via=via))
    assert told["omitted"] == 2
    changes = [{"key": "routes/r", "before": {"service": "two"}, "after": {"service": "one"}}]
    assert [step["changes"] for step in told["steps"]] == [changes]
    everything = json.loads(alone.good("get", "-o", "json"))
    left = {item["key"]: item for item in everything if not item["key"].startswith("instances/")}
    assert set(left) == {"routes/r", "services/one", "backends/two/registered"}
    assert left["routes/r"]["value"] == {"service": "one"}
    assert left["routes/r"]["mod_revision"] == left["services/one"]["mod_revision"]
    now = left["routes/r"]["mod_revision"]
    etcd_server.etcdctl("compact", str(now))
    compacted = alone.run("history", via=via)
    assert (compacted.status, f"before revision {now}" in compacted.error) == (0, True)
    assert "compacted" in alone.run("rollback", str(revision), via=via).error
