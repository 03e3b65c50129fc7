"""`weldr register`, alone and around a command."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, WeldrProcess, wait_until
from tests.support.ports import free_port
from tests.support.servers import NamedServer, named_servers


def register(etcd: EtcdServer, prefix: str, *arguments: str) -> WeldrProcess:
    return WeldrProcess("register", "--etcd", etcd.endpoint, "--prefix", prefix, *arguments)


def value_of(etcd: EtcdServer, key: str) -> str:
    return etcd.etcdctl("get", "--print-value-only", key).strip()


SERVER = """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.signal(signal.SIGUSR1, lambda *_: open(sys.argv[2], "w").close())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_registers_under_a_lease_and_deregisters_at_its_end(
    etcd_server: EtcdServer, etcd_prefix: str, number: int
) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    with register(
        etcd_server, etcd_prefix, "shop", "127.0.0.1:9001", "--id", "b1", "--weight", "3"
    ) as registering:
        registering.wait_logged("registration: registered")
        assert value_of(etcd_server, key) == '{"url":"http://127.0.0.1:9001","weight":3}'
        lease = etcd_server.etcdctl("get", "-w", "fields", key)
        assert '"Lease" : 0' not in lease
        registering.signal(number)
        assert registering.wait() == 0
        assert value_of(etcd_server, key) == ""


def test_a_port_alone_is_completed_with_this_machines_address(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with register(etcd_server, etcd_prefix, "shop", "9001", "--id", "b1") as registering:
        registering.wait_logged("registration: registered")
        assert "http://127.0.0.1:9001" in value_of(etcd_server, f"{etcd_prefix}backends/shop/b1")


def test_a_command_is_in_rotation_from_its_first_accept_to_its_end(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    port, mark = free_port(), tmp_path / "mark"
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        command = (sys.executable, "-c", SERVER, str(port), str(mark))
        with register(
            etcd_server, etcd_prefix, "default", str(port), "--id", "b1", "--", *command
        ) as registering:
            weldr.wait_logged("backend is in rotation", backend="b1")
            assert weldr.get() == (200, "ok")
            registering.signal(signal.SIGUSR1)
            wait_until(mark.exists, "the signal was passed on")
            registering.signal(signal.SIGTERM)
            assert registering.wait() == 7, "the command's own status"
        weldr.wait_logged("backend is draining", backend="b1")
        weldr.wait_logged("service left")


def test_a_command_that_dies_is_out_of_rotation_at_once(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    port = free_port()
    command = (sys.executable, "-c", SERVER, str(port))
    with register(etcd_server, etcd_prefix, "default", str(port), "--id", "b1", "--", *command) as registering:
        registering.wait_logged("registration: registered")
        children = Path(f"/proc/{registering.pid}/task/{registering.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert registering.wait() == 128 + signal.SIGKILL
        assert value_of(etcd_server, f"{etcd_prefix}backends/default/b1") == ""


def test_with_a_check_it_registers_only_once_that_answers_2xx(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    port, check_port = free_port(), free_port()
    check = f"http://127.0.0.1:{check_port}/ready"
    command = (sys.executable, "-c", SERVER, str(port))
    arguments = ("default", str(port), "--id", "b1", "--check", check, "--", *command)
    with register(etcd_server, etcd_prefix, *arguments) as registering:

        def accepts() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(accepts, "the command listens")
        assert value_of(etcd_server, f"{etcd_prefix}backends/default/b1") == ""
        with NamedServer("ready", check_port):
            registering.wait_logged("registration: registered")


def test_waiting_for_a_port_that_does_not_accept_is_said(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    with register(etcd_server, etcd_prefix, "shop", address, "--", "sleep", "60") as registering:
        record = registering.wait_logged(f"not registered yet: waiting until {address} accepts connections")
        assert "refused" in record["reason"]
        registering.signal(signal.SIGTERM)
        assert registering.wait() == 128 + signal.SIGTERM
        registering.wait_logged("registration: left", reason="it had not been registered")


# The second holds a backslash, which the text of a name doubles.
@pytest.mark.parametrize(("given", "name"), [("b1", "b1"), (r"a\b", r"a\\b")])
def test_leaving_waits_until_no_instance_has_a_request_in_flight(
    etcd_server: EtcdServer, etcd_prefix: str, given: str, name: str
) -> None:
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as first,
        Instance("--instance", "second", etcd=etcd_server.endpoint, prefix=etcd_prefix) as second,
        register(etcd_server, etcd_prefix, "default", one.address, "--id", given) as registering,
    ):
        for weldr in (first, second):
            weldr.wait_ready()
            wait_until(lambda weldr=weldr: weldr.get()[0] == 200, "the backend answers")
        one.hold()
        answers: list[tuple[int, str]] = []
        client = threading.Thread(target=lambda: answers.append(second.get(limit_s=30)))
        client.start()
        wait_until(lambda: one.waiting == 1, "a request is in flight on the second instance")
        registering.signal(signal.SIGTERM)
        for weldr in (first, second):
            weldr.wait_logged("backend is draining", backend=name)
        wait_until(
            lambda: (
                f"{json.dumps(f'default/{name}')}:1" in value_of(etcd_server, f"{etcd_prefix}instances/second")
            ),
            "the second instance tells of the request",
        )
        assert registering.process.poll() is None
        assert '"drain":true' in value_of(etcd_server, f"{etcd_prefix}backends/default/{given}")
        one.release()
        client.join(60)
        assert answers == [(200, "one")]
        assert registering.wait() == 0
        assert value_of(etcd_server, f"{etcd_prefix}backends/default/{given}") == ""


def test_leaving_waits_no_longer_than_the_grace(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
        register(etcd_server, etcd_prefix, "default", one.address, "--id", "b1", "--grace", "1") as registering,
    ):
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        one.hold()
        client = threading.Thread(target=lambda: weldr.get(limit_s=30))
        client.start()
        wait_until(lambda: one.waiting == 1, "a request is in flight")
        registering.signal(signal.SIGTERM)
        assert registering.wait() == 0
        registering.wait_logged("left with requests still in flight")
        one.release()
        client.join(60)


def test_a_lost_lease_is_followed_by_a_new_registration(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    with register(
        etcd_server, etcd_prefix, "shop", "127.0.0.1:9001", "--id", "b1", "--ttl", "3"
    ) as registering:
        registering.wait_logged("registration: registered")
        fields = etcd_server.etcdctl("get", "-w", "fields", key)
        lease = int(fields.partition('"Lease" : ')[2].partition("\n")[0])
        etcd_server.etcdctl("lease", "revoke", f"{lease:x}")
        registering.wait_logged("registration: registered", count=2)
        assert value_of(etcd_server, key)


def test_an_etcd_outage_longer_than_the_ttl_is_followed_by_a_new_registration(own_etcd: EtcdServer) -> None:
    with register(own_etcd, "/weldr/", "shop", "127.0.0.1:9001", "--id", "b1", "--ttl", "2") as registering:
        registering.wait_logged("registration: registered")
        own_etcd.stop()
        registering.wait_logged("registration: registering")
        own_etcd.start()
        registering.wait_logged("registration: registered", count=2)
        assert value_of(own_etcd, "/weldr/backends/shop/b1")


def test_a_successor_under_the_same_key_is_not_deregistered(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    arguments = ("shop", "127.0.0.1:9001", "--id", "b1")
    key = f"{etcd_prefix}backends/shop/b1"
    with register(etcd_server, etcd_prefix, *arguments) as first:
        first.wait_logged("registration: registered")
        with register(etcd_server, etcd_prefix, *arguments) as second:
            second.wait_logged("registration: registered")
            first.signal(signal.SIGTERM)
            assert first.wait() == 0
            assert value_of(etcd_server, key) == '{"url":"http://127.0.0.1:9001"}'


def test_a_successors_key_is_left_alone_when_the_own_lease_is_lost_and_taken_again_when_it_is_free(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    debug = ("--log-level", "debug")
    with register(etcd_server, etcd_prefix, "shop", "127.0.0.1:9001", "--id", "b1", *debug) as first:
        first.wait_logged("registration: registered")
        lease = json.loads(etcd_server.etcdctl("get", "-w", "json", key))["kvs"][0]["lease"]
        with register(etcd_server, etcd_prefix, "shop", "127.0.0.1:9002", "--id", "b1") as second:
            second.wait_logged("registration: registered")
            first.wait_logged("registration: taken")
            etcd_server.etcdctl("lease", "revoke", f"{lease:x}")
            first.wait_logged("lease lost")
            first.wait_logged("lease granted", count=2)
            assert value_of(etcd_server, key) == '{"url":"http://127.0.0.1:9002"}'
            second.signal(signal.SIGTERM)
            assert second.wait() == 0
        first.wait_logged("registration: registered", count=2)
        assert value_of(etcd_server, key) == '{"url":"http://127.0.0.1:9001"}'


def test_a_key_that_somebody_deleted_is_put_again(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}backends/shop/b1"
    with register(etcd_server, etcd_prefix, "shop", "127.0.0.1:9001", "--id", "b1") as registering:
        registering.wait_logged("registration: registered")
        etcd_server.etcdctl("del", key)
        wait_until(lambda: value_of(etcd_server, key), "it is there again")


def test_a_registration_that_etcd_refuses_is_said_once_and_made_when_it_is_permitted(
    own_etcd: EtcdServer,
) -> None:
    for command in (
        "user add root:rootpw",
        "user grant-role root root",
        "role add shop",
        "user add shop:secret",
        "user grant-role shop shop",
        "auth enable",
    ):
        own_etcd.etcdctl(*command.split())
    with register(own_etcd, "/weldr/", "shop", "127.0.0.1:9001", "--user", "shop:secret") as registering:
        record = registering.wait_logged("etcd refuses the lease or its keys", lease="registration")
        assert "permission denied" in record["reason"]
        grant = "role grant-permission --prefix shop readwrite /weldr/backends/shop/"
        own_etcd.etcdctl("--user=root:rootpw", *grant.split())
        registering.wait_logged("registration: registered")
        registering.wait_logged("etcd takes the lease and its keys now")
        assert len(registering.logged("etcd refuses")) == 1
        assert "Traceback" not in "\n".join(registering.lines)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("shop", "127.0.0.1"), 2, "no port"),
        (("shop", "http://127.0.0.1:1/x"), 2, "path"),
        (("a/b", "127.0.0.1:1"), 2, "slash"),
        (("\udcff", "127.0.0.1:1"), 2, "is no text"),
        (("shop", "127.0.0.1:1", "--ttl", "0"), 2, "--ttl"),
        (("shop", "127.0.0.1:1", "--weight", "-1"), 2, "--weight"),
        (("shop", "127.0.0.1:1", "--check", "nonsense"), 2, "nonsense"),
        (("shop", "127.0.0.1:1", "--check", "http://[::1"), 2, "http://[::1"),
        (("shop", "127.0.0.1:1", "--check", "http://a:99999/"), 2, "http://a:99999/"),
        (("shop", "127.0.0.1:1", "--grace", "nan"), 2, "--grace"),
        (("shop", "127.0.0.1:1", "--", "/no/such/command"), 1, "cannot run '/no/such/command'"),
    ],
)
def test_wrong_words_are_answered_in_one_line(
    etcd_server: EtcdServer, etcd_prefix: str, arguments: tuple[str, ...], status: int, words: str
) -> None:
    with register(etcd_server, etcd_prefix, *arguments) as registering:
        assert registering.wait() == status
        assert words in "\n".join(registering.lines)
        assert "Traceback" not in "\n".join(registering.lines)
