"""Bad input gets one line that says what and where, and stops no traffic."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer, ServerTls
from tests.support.instance import Instance, WeldrProcess, run_command, wait_until
from tests.support.servers import named_servers
from tests.support.tls import Authority
from weldr.etcd.client import EtcdClient
from weldr.etcd.config import EtcdConfig

_PR_CAPBSET_DROP = 24
_CAP_NET_BIND_SERVICE = 10


def assert_one_line(weldr: WeldrProcess, status: int, *words: str) -> None:
    assert weldr.wait() == status, weldr.lines
    said = [line for line in weldr.lines if not line.startswith("{")]
    assert len(said) == 1, weldr.lines
    for word in words:
        assert word in said[0]
    assert "Traceback" not in "\n".join(weldr.lines)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1:2379", ["ftp"]),
        ("http://127.0.0.1:port", ["127.0.0.1:port"]),
        ("http://127.0.0.1:2379/path", ["path"]),
        ("http://user:hunter2@127.0.0.1:2379", ["--user"]),
        (",", ["no etcd URL"]),
        ("", ["no etcd URL"]),
    ],
)
def test_a_malformed_etcd_url_is_wrong_usage(url: str, words: list[str]) -> None:
    with WeldrProcess("run", "--etcd", url) as weldr:
        assert_one_line(weldr, 2, *words)
        assert "hunter2" not in "\n".join(weldr.lines)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "127.0.0.1"),
        ("--listen", "::1:8080"),
        ("--listen", "127.0.0.1:99999"),
        ("--admin", "nonsense"),
        ("--workers", "0"),
        ("--grace", "nan"),
        ("--grace", "inf"),
        ("--instance", "\udcff"),
        ("--prefix", "\udcff"),
        ("--instance", "a/b"),
        ("--prefix", "/"),
        ("--cacert", "/nowhere/ca.pem", "--etcd", "https://127.0.0.1:2379"),
        ("--no-such-option",),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments: tuple[str, ...]) -> None:
    with WeldrProcess("run", *arguments) as weldr:
        assert_one_line(weldr, 2, arguments[0] if arguments[0] != "--cacert" else "/nowhere/ca.pem")


def test_options_for_an_etcd_that_is_not_named_are_wrong_usage() -> None:
    with WeldrProcess("run", "--cert", "/nowhere/cert.pem") as weldr:
        assert_one_line(weldr, 2, "--etcd")


@pytest.mark.parametrize("option", ["--listen", "--admin"])
@pytest.mark.parametrize("shared", [False, True], ids=["plain", "SO_REUSEPORT"])
def test_a_port_in_use_is_named_with_the_option_that_chooses_another(option: str, shared: bool) -> None:
    with socket.socket() as taken:
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        others = {"--listen": "127.0.0.1:0", "--admin": "127.0.0.1:0"} | {option: address}
        arguments = [word for pair in others.items() for word in pair]
        with WeldrProcess("run", "--etcd", "127.0.0.1:1", *arguments) as weldr:
            assert_one_line(weldr, 1, address, "in use", option)


def test_too_many_workers_for_the_open_files_are_said_so() -> None:
    command = ["prlimit", "--nofile=60:60", sys.executable, "-m", "weldr", "run", "--etcd", "127.0.0.1:1"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "100"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "too many files are open" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_closed_standard_error_is_no_reason_to_stop(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    command = run_command(etcd_server.endpoint, etcd_prefix)
    process = subprocess.Popen(["sh", "-c", 'exec "$@" 2>&-', "sh", *command], stdin=subprocess.DEVNULL)
    try:
        key = f"{etcd_prefix}instances/"
        wait_until(lambda: etcd_server.etcdctl("get", "--prefix", key), "it runs")
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(30)


def test_a_port_without_permission_is_said_so() -> None:
    def drop_capability() -> None:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_NET_BIND_SERVICE)

    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 2:
        pytest.skip("this machine lets everybody bind port 1 (net.ipv4.ip_unprivileged_port_start)")
    command = [sys.executable, "-m", "weldr", "run", "--etcd", "127.0.0.1:1", "--listen", "127.0.0.1:1"]
    ended = subprocess.run(
        command,
        preexec_fn=drop_capability if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("weldr: cannot listen on 127.0.0.1:1: no permission")
    assert ended.stderr.count("\n") == 1


def test_an_address_that_the_machine_does_not_have_is_said_so() -> None:
    with WeldrProcess(
        "run", "--etcd", "127.0.0.1:1", "--listen", "192.0.2.1:8080", "--admin", "127.0.0.1:0"
    ) as weldr:
        assert_one_line(weldr, 1, "192.0.2.1:8080", "does not have the address")


def test_etcd_unreachable_at_start_is_waited_for_and_said_once(own_etcd: EtcdServer) -> None:
    own_etcd.stop()
    with named_servers("one") as (one,), Instance(etcd=own_etcd.endpoint) as weldr:
        weldr.wait_running()
        weldr.wait_logged("etcd is unreachable")
        status, body = weldr.admin_get("/readyz")
        assert (status, body.count("\n")) == (503, 1)
        assert weldr.admin_get("/healthz") == (200, "ok\n")
        own_etcd.start()
        own_etcd.etcdctl("put", "/weldr/backends/default/b1", one.address)
        wait_until(lambda: weldr.admin_get("/readyz") == (200, "ready\n"), "it is ready once etcd is there")
        wait_until(lambda: weldr.get() == (200, "one"), "it serves")
        assert len(weldr.logged("etcd is unreachable")) == 1


def test_a_wrong_password_is_said_once_and_waited_out(own_etcd: EtcdServer) -> None:
    for command in ("user add root:right", "user grant-role root root", "auth enable"):
        own_etcd.etcdctl(*command.split())
    with Instance("--user", "root", etcd=own_etcd.endpoint, environment={"WELDR_PASSWORD": "wrong"}) as weldr:
        weldr.wait_running()
        weldr.wait_logged("etcd refuses the login")
        assert weldr.admin_get("/readyz")[0] == 503
        assert weldr.admin_get("/healthz")[0] == 200
        own_etcd.etcdctl("--user=root:right", "user", "passwd", "root", "--interactive=false", stdin="wrong\n")
        weldr.wait_logged("ready: every worker serves the catalog")
        assert len(weldr.logged("etcd refuses the login")) == 1
        assert "wrong" not in "\n".join(weldr.lines)
        assert "Traceback" not in "\n".join(weldr.lines)


def test_a_wrong_ca_is_said_once_and_waited_out(tmp_path: Path) -> None:
    right, wrong = Authority(tmp_path, "right"), Authority(tmp_path, "wrong")
    pair = right.issue("server")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(wrong.ca.read_bytes())
    with (
        EtcdServer(tls=ServerTls(pair.certificate, pair.key, right.ca)) as server,
        Instance("--cacert", str(trusted), etcd=server.endpoint) as weldr,
    ):
        weldr.wait_running()
        record = weldr.wait_logged("etcd is unreachable")
        assert "certificate" in record["reason"].lower()
        assert server.endpoint in record["reason"]
        assert weldr.admin_get("/readyz")[0] == 503
        assert weldr.admin_get("/healthz")[0] == 200
        trusted.write_bytes(right.ca.read_bytes())
        weldr.wait_logged("ready: every worker serves the catalog")
        assert len(weldr.logged("etcd is unreachable")) == 1
        # Nor does a library say it in its own way.
        assert [line for line in weldr.lines if not line.startswith("{")] == []


def test_an_etcd_without_space_stops_no_traffic_and_is_said_once() -> None:
    with (
        named_servers("one") as (one,),
        EtcdServer(None, "--quota-backend-bytes=1000000") as etcd,
    ):
        etcd.etcdctl("put", "/weldr/backends/default/b1", one.address)

        def is_full() -> bool:
            # etcd counts what it has written to the disk, which it does ten times a second.
            etcd.etcdctl("put", "/other/one", stdin_bytes=b"x" * 200_000, check=False)
            return "NOSPACE" in etcd.etcdctl("alarm", "list")

        wait_until(is_full, "etcd's space is exceeded")
        with Instance(etcd=etcd.endpoint) as weldr:
            weldr.wait_ready()
            record = weldr.wait_logged("etcd refuses the lease or its keys", lease="instance")
            assert "space exceeded" in record["reason"]
            assert weldr.get() == (200, "one")
            etcd.etcdctl("del", "--prefix", "/other/")
            answer = json.loads(etcd.etcdctl("get", "-w", "json", "/other/"))
            etcd.etcdctl("compact", str(answer["header"]["revision"]))
            etcd.etcdctl("defrag")
            etcd.etcdctl("alarm", "disarm")
            weldr.wait_logged("etcd takes the lease and its keys now")
            assert len(weldr.logged("etcd refuses")) == 1
            assert "Traceback" not in "\n".join(weldr.lines)


BAD_VALUES = {
    "empty": (b"", "$"),
    "not UTF-8": (b"\xff\xfe", "byte 0"),
    "1.5 MB": (b"x" * 1_500_000, "$"),
    "deeply nested": (b'{"a":' * 50_000, "$"),
    "unknown field": (b'{"url": "127.0.0.1:1", "wait": 1}', "$"),
    "wrong type": (b'{"url": 5}', "$.url"),
    "negative weight": (b'{"url": "127.0.0.1:1", "weight": -1}', "$.weight"),
    "path": (b"http://127.0.0.1:1/path", "$"),
    "credentials": (b"http://user:hunter2@127.0.0.1:1", "$"),
    "credentials and an impossible port": (b"http://user:hunter2@127.0.0.1:99999", "$"),
    "credentials with a slash": (b"http://user:hunter2/x@127.0.0.1:1", "$"),
}


def test_a_bad_value_stops_no_traffic_and_is_said_with_key_and_place(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        key = f"{etcd_prefix}backends/default/b1"
        etcd_server.etcdctl("put", key, one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
        for name, (value, place) in BAD_VALUES.items():
            # etcdctl takes no empty value from its input, and none that is not text as an argument.
            etcd_server.etcdctl("put", key, *([] if value else [""]), stdin_bytes=value)
            revision = json.loads(etcd_server.etcdctl("get", "-w", "json", "--keys-only", key))["kvs"][0][
                "mod_revision"
            ]
            record = weldr.wait_logged("a key cannot be understood", key=key, revision=revision)
            assert record["place"] == place, name
            assert weldr.get() == (200, "one"), name
        assert "hunter2" not in "\n".join(weldr.lines)
        for bad_key in ("backends/default", "backends/default/b2/x", "backend/default/b2", "backends//b2"):
            etcd_server.etcdctl("put", etcd_prefix + bad_key, "127.0.0.1:1")
            record = weldr.wait_logged("a key cannot be understood", key=etcd_prefix + bad_key)
            assert record["place"] == "key"
            assert weldr.get() == (200, "one")
        etcd_server.etcdctl("put", key, json.dumps({"url": one.address, "weight": 0}))
        weldr.wait_logged("backend is draining", backend="b1")
        assert weldr.get()[0] == 503
        etcd_server.etcdctl("put", key, one.address)
        weldr.wait_logged("a key is understood again, or gone", key=key)
        wait_until(lambda: weldr.get() == (200, "one"), "the good value is in force again")
        assert "Traceback" not in "\n".join(weldr.lines)


def test_a_route_without_backends_is_a_problem_for_as_long_as_that_lasts(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    def problems() -> list[str]:
        held = etcd_server.etcdctl("get", "--print-value-only", "--prefix", f"{etcd_prefix}instances/")
        found: list[str] = json.loads(held)["problems"] if held.strip() else []
        return found

    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        key = f"{etcd_prefix}routes/shop"
        etcd_server.etcdctl("put", key, '{"service": "shop", "path": "/"}')
        record = weldr.wait_logged("a key cannot mean what it says", key=key)
        assert record["place"] == "$.service"
        assert weldr.get()[0] == 503
        wait_until(lambda: "the service shop has no backend" in str(problems()), "the instance tells")
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/shop/b1", one.address)
        wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
        wait_until(lambda: problems() == [], "the problem is over")


def test_a_route_that_clashes_with_another_is_refused_alone_by_old_and_new_instances_alike(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    def put(name: str, route: dict[str, object]) -> str:
        key = f"{etcd_prefix}routes/{name}"
        etcd_server.etcdctl("put", key, json.dumps(route))
        return key

    def saying(text: str, path: str) -> dict[str, object]:
        return {"path": path, "response": {"status": 200, "body": text}}

    def mirrored(service: str, path: str, to: str) -> dict[str, object]:
        return {"path": path, "service": service, "mirror": {"service": to}}

    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as old,
    ):
        for service in ("shop", "copy"):
            etcd_server.etcdctl("put", f"{etcd_prefix}backends/{service}/b1", one.address)
        old.wait_ready()
        put("z", saying("first", "/x"))
        put("m1", mirrored("shop", "/m1", "copy"))
        same = put("y", saying("before", "/y"))
        wait_until(lambda: old.get("/y") == (200, "before"), "the good value is in force")
        put("y", saying("second", "/x"))
        circle = put("m2", mirrored("copy", "/m2", "shop"))
        assert old.wait_logged("a key cannot mean what it says", key=same)["place"] == "$"
        record = old.wait_logged("a key cannot mean what it says", key=circle)
        assert record["place"] == "$.mirror.service"
        assert "copy → shop → copy" in record["reason"]
        put("last", saying("behind", "/last"))
        with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as new:
            new.wait_ready()
            for weldr, kept in ((old, (200, "before")), (new, (503, None))):
                wait_until(lambda weldr=weldr: weldr.get("/last") == (200, "behind"), "it serves")
                assert weldr.get("/x") == (200, "first")
                assert weldr.get("/m1") == (200, "one")
                assert weldr.get("/m2")[0] == 503
                status, body = weldr.get("/y")
                assert (status, kept[1] and body) == kept
            etcd_server.etcdctl("del", f"{etcd_prefix}routes/z")
            etcd_server.etcdctl("del", f"{etcd_prefix}routes/m1")
            for weldr in (old, new):
                wait_until(lambda weldr=weldr: weldr.get("/m2") == (200, "one"), "the refused one comes")
                assert weldr.get("/x") == (200, "second")
                assert weldr.get("/y")[0] == 503
                weldr.wait_logged("a key is understood again, or gone", key=same)


def test_a_prefix_is_not_taken_for_a_longer_one(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        named_servers("one", "two") as (one, two),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        other = etcd_prefix.rstrip("/") + "-other/"
        etcd_server.etcdctl("put", f"{other}backends/default/b2", two.address)
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_ready()
        assert {weldr.get()[1] for _ in range(6)} == {"one"}


async def test_a_name_of_any_length_harms_only_its_own_key(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    """What an instance writes of itself tells of virtual IPs and problems, and has to fit into etcd."""
    value = b'{"address": "10.77.0.1", "interface": "none"}'
    async with EtcdClient(EtcdConfig.from_text(etcd_server.endpoint)) as client:
        for number in range(4):
            await client.put(f"{etcd_prefix}vips/{number}{'x' * 600_000}".encode(), value)
        with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
            weldr.wait_ready()
            key = f"{etcd_prefix}instances/{weldr.name}"
            wait_until(lambda: etcd_server.etcdctl("get", key), "the instance tells of itself")
            assert weldr.logged(
                "a key cannot be understood", reason="the key has a segment of more than 1024 bytes"
            )
            assert len(weldr.admin_get("/metrics")[1]) < 1_000_000
