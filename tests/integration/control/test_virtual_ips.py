"""Virtual IPs without namespaces: several instances on one machine, leadership and commands, and what is
refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until

TTL_S = 15
"""For nobody to lose what it holds while a busy machine keeps it from running."""


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
            value = {"address": f"10.9.9.{number}", "announce": "none", "hold_down_s": 2, "ttl_s": TTL_S}
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
    ("value", "problem"),
    [
        ({"address": "10.9.9.1", "announce": "exec", "command": "x"}, "start weldr with --commands DIRECTORY"),
        ({"address": "10.9.9.1", "interface": "none0"}, "lacks CAP_NET_ADMIN"),
    ],
    ids=["no commands", "no capability"],
)
def test_what_keeps_a_host_from_holding_is_a_problem_and_no_crash(
    etcd_server: EtcdServer, etcd_prefix: str, value: dict[str, str], problem: str
) -> None:
    under: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("the command setpriv is missing: install util-linux")
        under = ("setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw")
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
