"""How an instance ends: what is in flight finishes, nothing is left running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, run_command, wait_until
from tests.support.servers import Load, named_servers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_in_flight_finish(
    etcd_server: EtcdServer, etcd_prefix: str, number: signal.Signals
) -> None:
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as weldr,
    ):
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        one.hold()
        answers: list[tuple[int, str]] = []
        clients = [threading.Thread(target=lambda: answers.append(weldr.get(limit_s=30))) for _ in range(8)]
        for client in clients:
            client.start()
        wait_until(lambda: one.waiting == 8, "the requests are in flight")
        weldr.signal(number)
        weldr.wait_logged("stopping: finishing what is in flight")

        def refused() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", weldr.port)) != 0

        wait_until(refused, "new connections are refused")
        one.release()
        for client in clients:
            client.join(60)
        assert answers == [(200, "one")] * 8
        assert weldr.wait() == 0
        assert "Traceback" not in "\n".join(weldr.lines)


def test_an_instance_is_in_etcd_until_its_last_request_has_ended(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_ready()

        def described() -> str:
            return etcd_server.etcdctl("get", "--print-value-only", "--prefix", f"{etcd_prefix}instances/")

        wait_until(described, "the instance is in etcd")
        one.hold()
        client = threading.Thread(target=lambda: weldr.get(limit_s=30))
        client.start()
        wait_until(lambda: one.waiting == 1, "the request is in flight")
        weldr.signal(signal.SIGTERM)
        weldr.wait_logged("stopping: finishing what is in flight")
        etcd_server.etcdctl("put", f"{etcd_prefix}overrides/default/b1", '{"drain": true}')
        # Whoever waits for the backend to be idle is told of this request, too.
        wait_until(lambda: '"default/b1":1' in described(), "the instance tells of the request")
        one.release()
        client.join(60)
        assert weldr.wait() == 0
        assert not described().strip()


def test_the_grace_is_the_most_that_a_request_may_take_to_finish(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with (
        named_servers("one") as (one,),
        Instance("--grace", "1", etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_ready()
        one.hold()
        with socket.create_connection(("127.0.0.1", weldr.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: one.waiting == 1, "the request is in flight")
            weldr.signal(signal.SIGTERM)
            assert weldr.wait() == 0
            client.settimeout(30)
            with pytest.raises(ConnectionResetError):
                client.recv(100)
        one.release()


def test_a_stop_under_load_fails_no_request_that_was_accepted(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as weldr,
    ):
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        load = Load(weldr.address, connections=16).start()
        wait_until(lambda: len(load.answers) > 500, "the load runs")
        weldr.signal(signal.SIGTERM)
        assert weldr.wait() == 0
        load.stop()
        # Once nobody listens, connecting is refused, and nothing else ever happens to a client.
        failures = [failure for failure in load.failures() if "ConnectionRefused" not in failure.error]
        assert not failures, failures[:5]


def test_a_second_signal_ends_it_at_once(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_ready()
        one.hold()
        with socket.create_connection(("127.0.0.1", weldr.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: one.waiting == 1, "the request is in flight")
            started = time.monotonic()
            weldr.signal(signal.SIGINT)
            weldr.wait_logged("stopping")
            weldr.signal(signal.SIGINT)
            weldr.wait()
            assert time.monotonic() - started < 20
        one.release()


def test_a_stop_while_etcd_is_away_ends_all_the_same(own_etcd: EtcdServer) -> None:
    with Instance(etcd=own_etcd.endpoint) as weldr:
        weldr.wait_ready()
        own_etcd.freeze()
        weldr.signal(signal.SIGTERM)
        assert weldr.wait(limit_s=30) == 0
        own_etcd.thaw()


def test_it_ends_also_when_nobody_reads_what_it_logs(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 1024)
    os.set_blocking(writing, True)
    command = run_command(etcd_server.endpoint, etcd_prefix, "--log-level", "debug")
    process = subprocess.Popen(command, stderr=writing, stdin=subprocess.DEVNULL)
    try:
        key = f"{etcd_prefix}instances/"
        wait_until(lambda: etcd_server.etcdctl("get", "--prefix", key), "it runs")
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0
    finally:
        process.kill()
        process.wait(30)
        os.close(reading)
        os.close(writing)
