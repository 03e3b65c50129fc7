"""Virtual IPs without namespaces: several instances on one machine, leadership and commands, and what is
refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.relay import TcpRelay

TTL_S = 15
"""For nobody to lose what it holds while a busy machine keeps it from running."""
HOLD_DOWN_S = 2


def holder(etcd: EtcdServer, prefix: str, vip: str) -> dict[str, Any] | None:
    text = etcd.etcdctl("get", "--print-value-only", f"{prefix}holders/{vip}").strip()
    record = json.loads(text) if text else None
    return record if record is not None and record["state"] == "held" else None


def told(etcd: EtcdServer, prefix: str, instance: Instance) -> dict[str, Any]:
    text = etcd.etcdctl("get", "--print-value-only", f"{prefix}instances/{instance.name}").strip()
    return json.loads(text) if text else {}


def weldr(etcd: EtcdServer, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "weldr", *arguments, "--etcd", etcd.endpoint],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout if done.returncode == 0 else done.stderr


def shown_standings(way: list[str]) -> set[str]:
    """The virtual IPs of which `weldr get vips` tells all that it should, in the table and to programs."""
    command = [sys.executable, "-P", "-m", "weldr", "get", "vips", *way]
    table = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    told = subprocess.run(
        [*command, "-o", "json"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found = set()
    for item in json.loads(told):
        name, status = item["key"].removeprefix("vips/"), item["status"]
        (row,) = [line.split("\t") for line in table.splitlines() if line.startswith(name)]
        holder = status["holder"] or {}
        if status["state"] == "held" and sorted(status["standing"]) == ["a", "b"]:
            assert row[2:7] == [
                "held",
                holder["instance"],
                str(holder["token"]),
                holder["since"],
                f"claimed: {holder['reason']}",
            ]
            found.add(name)
    return found


def test_two_instances_and_two_virtual_ips_get_one_each_and_the_survivor_both(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    etcd, prefix = etcd_server, etcd_prefix
    arguments = {"etcd": etcd.endpoint, "prefix": prefix}
    with Instance("--instance", "a", **arguments) as a, Instance("--instance", "b", **arguments) as b:
        a.wait_ready()
        b.wait_ready()
        for number in (1, 2):
            value = {"address": f"10.9.9.{number}", "announce": "none", "hold_down_s": HOLD_DOWN_S}
            # Nor is an answer of etcd too late on a busy machine.
            value |= {"ttl_s": TTL_S, "failover": "lease"}
            etcd.etcdctl("put", f"{prefix}vips/v{number}", json.dumps(value))

        def holders() -> set[str]:
            return {record["instance"] for vip in ("v1", "v2") if (record := holder(etcd, prefix, vip))}

        wait_until(lambda: holders() == {"a", "b"}, "each holds one")
        listed = weldr(etcd, "vip", "list", "--prefix", prefix)
        assert "10.9.9.1" in listed
        assert "held" in listed
        for way in (["--etcd", etcd.endpoint, "--prefix", prefix], ["--admin", a.admin]):
            wait_until(lambda way=way: shown_standings(way) == {"v1", "v2"}, "the commands tell")
        wait_until(
            lambda: (
                sorted(found["state"] for found in told(etcd, prefix, a).get("vips", {}).values())
                == ["announcing", "following"]
            ),
            "the instance tells",
        )
        b.close()
        wait_until(
            lambda: (
                [record and record["instance"] for record in (holder(etcd, prefix, v) for v in ("v1", "v2"))]
                == ["a", "a"]
            ),
            "the survivor holds both",
        )
        with Instance("--instance", "b", **arguments) as again:
            again.wait_ready()
            wait_until(lambda: holders() == {"a", "b"}, "they spread again")
            spread = [holder(etcd, prefix, vip) for vip in ("v1", "v2")]
            time.sleep(3 * HOLD_DOWN_S)
            now = [holder(etcd, prefix, vip) for vip in ("v1", "v2")]
            assert [record and record["token"] for record in now] == [
                record and record["token"] for record in spread
            ], "and not back and forth"


@contextlib.contextmanager
def far_from(endpoint: str, delay_s: float) -> Iterator[str]:
    """The endpoint of whoever is that far from it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    relay = TcpRelay(endpoint, delay_s)
    try:
        asyncio.run_coroutine_threadsafe(relay.__aenter__(), loop).result(10)
        yield relay.endpoint
        asyncio.run_coroutine_threadsafe(relay.__aexit__(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_an_instance_too_far_from_etcd_to_hold_leaves_it_to_another(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    etcd, prefix = etcd_server, etcd_prefix
    value = {"address": "10.9.9.1", "announce": "none", "priority": {"far": 1}}
    etcd.etcdctl("put", f"{prefix}vips/web", json.dumps(value))
    with (
        far_from(etcd.endpoint, 0.04) as endpoint,
        Instance("--instance", "far", etcd=endpoint, prefix=prefix) as far,
    ):
        # Two answers take longer than its window leaves.
        wait_until(lambda: (holder(etcd, prefix, "web") or {}).get("instance") == "far", "far claims it")
        with Instance("--instance", "near", etcd=etcd.endpoint, prefix=prefix) as near:
            near.wait_ready()
            wait_until(
                lambda: told(etcd, prefix, near).get("vips", {}).get("web", {}).get("state") == "announcing",
                "near holds it",
            )
            far.wait_logged(
                "a virtual IP cannot be held here",
                reason="etcd's answers come too late to hold an address by them",
            )


def test_an_address_is_kept_without_etcd_also_after_etcd_was_restored(
    own_etcd: EtcdServer, tmp_path: Path
) -> None:
    etcd, prefix, lifetime_s = own_etcd, "/weldr/", 3
    value = {"address": "10.9.9.1", "announce": "none", "ttl_s": 6, "lifetime_s": lifetime_s}
    etcd.etcdctl("put", f"{prefix}vips/web", json.dumps(value))
    with (
        Instance("--instance", "a", etcd=etcd.endpoint) as a,
        Instance("--instance", "b", etcd=etcd.endpoint) as b,
    ):
        instances = {"a": a, "b": b}
        for instance in instances.values():
            instance.wait_ready()

        def settled() -> str | None:
            record = holder(etcd, prefix, "web") or {}
            keys = etcd.etcdctl("get", "--prefix", "--keys-only", f"{prefix}elections/web/")
            states = [told(etcd, prefix, each).get("vips", {}).get("web", {}) for each in instances.values()]
            announced = [state.get("token") for state in states if state.get("state") == "announcing"]
            good = announced == [record.get("token")] and record.get("peers") and len(keys.split()) == 2
            return record["instance"] if good else None

        wait_until(settled, "one holds it")
        backup = tmp_path / "backup"
        etcd.etcdctl("snapshot", "save", str(backup))
        # What happens now is forgotten, and the next holder has a lower token.
        for _ in range(2):
            assert "is held by" in weldr(etcd, "vip", "move", "web", "--prefix", prefix)
        etcd.kill()
        etcd.restore(backup)
        etcd.start()
        for instance in instances.values():
            instance.wait_logged("all keys were read anew", reason="restored")

        now_held_by = wait_until(settled, "one holds it again")
        lines = len(instances[now_held_by].lines)
        etcd.kill()
        time.sleep(lifetime_s * 2)
        lost = [line for line in instances[now_held_by].lines[lines:] if "confirmed it in time" in line]
        assert not lost


def test_a_move_by_hand_and_its_refusals(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    etcd, prefix = etcd_server, etcd_prefix
    arguments = {"etcd": etcd.endpoint, "prefix": prefix}
    assert "there is no virtual IP 'web'" in weldr(etcd, "vip", "move", "web", "--prefix", prefix)
    etcd.etcdctl(
        "put", f"{prefix}vips/web", json.dumps({"address": "10.9.9.1", "announce": "none", "ttl_s": TTL_S})
    )
    assert "nobody holds 'web'" in weldr(etcd, "vip", "move", "web", "--prefix", prefix)
    with Instance("--instance", "a", **arguments):
        wait_until(lambda: holder(etcd, prefix, "web"), "a holds it")
        assert "nobody but a stands" in weldr(etcd, "vip", "move", "web", "--prefix", prefix)
        assert "'c' does not stand" in weldr(etcd, "vip", "move", "web", "--to", "c", "--prefix", prefix)
        with Instance("--instance", "b", **arguments):
            wait_until(
                lambda: "held by b" in weldr(etcd, "vip", "move", "web", "--to", "b", "--prefix", prefix),
                "it moves",
            )
            assert holder(etcd, prefix, "web")["instance"] == "b"  # type: ignore[index]


def test_a_move_from_a_holder_that_etcd_does_not_hear_is_refused(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    etcd, prefix = etcd_server, etcd_prefix
    record = {"instance": "a", "address": "10.9.9.1", "token": 7, "lease": 1, "state": "held"}
    times = {"since": "", "window_s": 2.2, "promise_s": 3.0, "host": "a"}
    etcd.etcdctl("put", f"{prefix}holders/web", json.dumps({**record, **times}))
    etcd.etcdctl("put", f"{prefix}vips/web", '{"address": "10.9.9.1", "announce": "none"}')
    etcd.etcdctl("put", f"{prefix}elections/web/b", "b")
    assert "a holds 'web' out of touch with etcd" in weldr(etcd, "vip", "move", "web", "--prefix", prefix)


def test_a_move_that_ends_elsewhere_is_a_failure(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    etcd, prefix = etcd_server, etcd_prefix

    def claim(instance: str, token: int) -> None:
        record = {"instance": instance, "address": "10.9.9.1", "token": token, "lease": 1, "state": "held"}
        times = {"since": "", "window_s": 2.2, "promise_s": 3.0, "host": instance}
        etcd.etcdctl("put", f"{prefix}holders/web", json.dumps({**record, **times}))

    etcd.etcdctl("put", f"{prefix}vips/web", '{"address": "10.9.9.1", "announce": "none"}')
    for instance in ("a", "b", "c"):
        etcd.etcdctl("put", f"{prefix}elections/web/{instance}", instance)
    claim("a", 7)
    command = [sys.executable, "-P", "-m", "weldr", "vip", "move", "web", "--to", "c"]
    command += ["--prefix", prefix, "--etcd", etcd.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as moving:
        wait_until(lambda: etcd.etcdctl("get", f"{prefix}moves/web"), "it is asked for")
        claim("b", 8)
        output, errors = moving.communicate(timeout=60)
    assert (moving.returncode, output) == (1, "")
    assert errors == "weldr: 'web' went to b and not to c: see their logs\n"


def test_a_command_is_told_what_it_has_to_know(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    log, may_end, program = tmp_path / "log", tmp_path / "may-end", tmp_path / "move-address"
    program.write_text(
        f'#!/bin/sh\necho "$1 $WELDR_VIP $WELDR_VIP_ADDRESS $WELDR_VIP_STATE" >> {log}\n'
        f"while [ $1 = release ] && [ ! -e {may_end} ]; do sleep 0.05; done\n"
    )
    program.chmod(0o755)
    value = {"address": "10.9.9.1", "announce": "exec", "command": "move-address", "ttl_s": TTL_S}
    etcd_server.etcdctl("put", f"{etcd_prefix}vips/web", json.dumps(value))
    with Instance("--commands", str(tmp_path), etcd=etcd_server.endpoint, prefix=etcd_prefix) as instance:
        wait_until(
            lambda: log.exists() and log.read_text() == "acquire web 10.9.9.1 announcing\n", "it is acquired"
        )
        etcd_server.etcdctl("del", f"{etcd_prefix}vips/web")
        wait_until(lambda: "release" in log.read_text(), "it is released")
        etcd_server.etcdctl("put", f"{etcd_prefix}vips/web", json.dumps(value))
        etcd_server.etcdctl("put", f"{etcd_prefix}vips/other", '{"address": "10.9.9.2", "announce": "none"}')
        wait_until(
            lambda: holder(etcd_server, etcd_prefix, "other"), "a slow command keeps nobody else waiting"
        )
        assert log.read_text().splitlines()[1:] == ["release web 10.9.9.1 following"]
        may_end.touch()
        wait_until(lambda: log.read_text().count("acquire") == 2, "it is acquired anew")
        instance.close()
    assert log.read_text().splitlines()[3:] == ["release web 10.9.9.1 following"]


def test_a_command_that_fails_is_a_problem_of_its_key_until_one_succeeds(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    etcd, prefix = etcd_server, etcd_prefix
    value = {"address": "10.9.9.1", "announce": "exec", "command": "move-address", "ttl_s": TTL_S}
    etcd.etcdctl("put", f"{prefix}vips/web", json.dumps(value))

    def give_program(name: str, fails: str) -> str:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        program = directory / "new"
        program.write_text(f"#!/bin/sh\n[ $1 != {fails} ] || {{ echo the cloud is away >&2; exit 3; }}\n")
        program.chmod(0o755)
        program.rename(directory / "move-address")
        return str(directory)

    def problem(name: str, command: str) -> str:
        return f"`{command}` failed: {tmp_path / name / 'move-address'} ended with 3: the cloud is away"

    def problems(instance: Instance) -> list[str]:
        found = told(etcd, prefix, instance).get("problems", [])
        return [line.removeprefix(f"{prefix}vips/web: ") for line in found]

    def listed(what: str) -> Any:
        (found,) = json.loads(weldr(etcd, "vip", "list", "-o", "json", "--prefix", prefix))
        return found[what]

    arguments: dict[str, Any] = {"etcd": etcd.endpoint, "prefix": prefix}
    with Instance("--instance", "a", "--commands", give_program("a", "acquire"), **arguments) as a:
        a.wait_ready()
        wait_until(lambda: problems(a) == [problem("a", "acquire")], "a failed acquire is told")
        assert listed("problems") == {"a": problem("a", "acquire")}
        assert holder(etcd, prefix, "web"), "it goes on trying"
        give_program("a", "release")
        wait_until(lambda: problems(a) == [], "another attempt succeeded")
        with Instance("--instance", "b", "--commands", give_program("b", "nothing"), **arguments) as b:
            b.wait_ready()
            wait_until(lambda: "b" in listed("standing"), "another one stands")
            wait_until(
                lambda: "held by b" in weldr(etcd, "vip", "move", "web", "--to", "b", "--prefix", prefix),
                "it moves",
            )
            wait_until(lambda: problems(a) == [problem("a", "release")], "a failed release is told")
            assert listed("problems") == {"a": problem("a", "release")}
            row = weldr(etcd, "get", "vips", "--prefix", prefix).rstrip("\n").split("\t")
            assert f"a: {problem('a', 'release')}" in row
        wait_until(lambda: problems(a) == [], "the next command succeeded")


def test_a_release_that_hangs_keeps_workers_from_draining_for_a_moment_only(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    program, acquired, releasing = tmp_path / "move", tmp_path / "acquired", tmp_path / "releasing"
    program.write_text(
        f"#!/bin/sh\n[ $1 = release ] || {{ echo > {acquired}; exit; }}\n"
        f"echo $$ > {releasing}\nexec sleep 600\n"
    )
    program.chmod(0o755)
    value = {"address": "10.9.9.1", "announce": "exec", "command": "move", "ttl_s": TTL_S}
    etcd_server.etcdctl("put", f"{etcd_prefix}vips/web", json.dumps(value))
    with Instance("--commands", str(tmp_path), etcd=etcd_server.endpoint, prefix=etcd_prefix) as instance:
        instance.wait_ready()
        wait_until(acquired.exists, "it is acquired")
        instance.signal(signal.SIGTERM)
        wait_until(lambda: instance.worker_pids() == [], "the workers have drained")
        os.kill(int(releasing.read_text()), signal.SIGKILL)
        assert instance.wait() == 0
        reason = f"{program} ended with -9: "
        assert [record["reason"] for record in instance.logged("command failed")] == [reason]


def test_a_command_that_fails_its_check_keeps_the_instance_from_holding(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    program, good = tmp_path / "check", tmp_path / "good"
    program.write_text(f"#!/bin/sh\ntest -e {good}\n")
    program.chmod(0o755)
    value = {"address": "10.9.9.1", "announce": "none", "check": "check"}
    etcd_server.etcdctl("put", f"{etcd_prefix}vips/web", json.dumps(value))
    with Instance("--commands", str(tmp_path), etcd=etcd_server.endpoint, prefix=etcd_prefix) as instance:
        wait_until(
            lambda: any("its check failed" in record.get("reason", "") for record in instance.records),
            "it is told",
        )
        assert holder(etcd_server, etcd_prefix, "web") is None
        good.touch()
        wait_until(lambda: holder(etcd_server, etcd_prefix, "web"), "it holds")


@pytest.mark.parametrize(
    ("value", "lacking", "problem"),
    [
        (
            {"address": "10.9.9.1", "announce": "exec", "command": "x"},
            "-net_admin,-net_raw",
            "start weldr with --commands DIRECTORY",
        ),
        ({"address": "10.9.9.1", "interface": "none0"}, "-net_admin,-net_raw", "lacks CAP_NET_ADMIN"),
        ({"address": "10.9.9.1", "interface": "none0"}, "-net_raw", "lacks CAP_NET_RAW"),
        ({"address": "2001:db8::1", "interface": "none0"}, "-net_raw", "lacks CAP_NET_RAW"),
    ],
    ids=["no commands", "neither capability", "no CAP_NET_RAW", "nor for IPv6"],
)
def test_what_keeps_a_host_from_holding_is_a_problem_and_no_crash(
    etcd_server: EtcdServer, etcd_prefix: str, value: dict[str, str], lacking: str, problem: str
) -> None:
    under: tuple[str, ...] = ()
    if os.geteuid() != 0:
        if lacking == "-net_raw":
            pytest.skip("only root has one capability to give up and another to keep")
    else:
        if shutil.which("setpriv") is None:
            pytest.skip("the command setpriv is missing: install util-linux")
        under = ("setpriv", f"--bounding-set={lacking}", f"--inh-caps={lacking}")
    etcd_server.etcdctl("put", f"{etcd_prefix}vips/web", json.dumps(value))
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, under=under) as instance:
        instance.wait_ready()
        wait_until(
            lambda: any(
                problem in line for line in told(etcd_server, etcd_prefix, instance).get("problems", [])
            ),
            "the problem is told",
        )
        assert holder(etcd_server, etcd_prefix, "web") is None
        etcd_server.etcdctl("del", f"{etcd_prefix}vips/web")
        wait_until(lambda: not told(etcd_server, etcd_prefix, instance)["problems"], "it went with the key")
