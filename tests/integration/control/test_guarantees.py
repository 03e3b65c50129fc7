"""The design's guarantees through the whole program: worker death, etcd's absence, atomic changes."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, logged_s, wait_until
from tests.support.servers import Load, named_servers
from tests.support.workers import worker_of_client_ports


def put_backends(etcd: EtcdServer, prefix: str, **addresses: str) -> None:
    for name, address in addresses.items():
        etcd.etcdctl("put", f"{prefix}backends/default/{name}", address)


def test_a_killed_worker_costs_only_the_requests_in_flight_on_it(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as weldr,
    ):
        put_backends(etcd_server, etcd_prefix, b1=one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the backend answers")
        load = Load(weldr.address, connections=20).start()
        wait_until(lambda: len(load.answers) > 500, "the load runs")
        before = weldr.worker_pids()
        victim = before[0]
        os.kill(victim, signal.SIGKILL)
        weldr.wait_logged("a worker died: it is replaced", pid=victim)
        wait_until(lambda: len(weldr.worker_pids()) == 2, "there are two workers again")
        count = len(load.answers)
        wait_until(lambda: len(load.answers) > count + 1000, "the load goes on")
        load.stop()
        failures = load.failures()
        # Each connection has at most one request in flight; no other request may fail.
        assert len(failures) <= 20, failures[:5]
        assert len({answer.client_port for answer in failures}) == len(failures)
        assert victim not in weldr.worker_pids()


def test_a_replaced_worker_serves_todays_catalog(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        named_servers("old", "new") as (old, new),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        put_backends(etcd_server, etcd_prefix, b1=old.address)
        weldr.wait_ready()
        put_backends(etcd_server, etcd_prefix, b1=new.address)
        wait_until(lambda: weldr.get() == (200, "new"), "the change is in force")
        os.kill(weldr.worker_pids()[0], signal.SIGKILL)
        # The connection waits in the dead worker's listening socket, which the manager keeps open.
        assert weldr.get() == (200, "new")


def test_a_frozen_worker_is_replaced(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        put_backends(etcd_server, etcd_prefix, b1=one.address)
        weldr.wait_ready()
        [victim] = weldr.worker_pids()
        os.kill(victim, signal.SIGSTOP)
        weldr.wait_logged("a worker gave no sign of life: it is killed", pid=victim)
        assert weldr.get() == (200, "one")


def test_a_worker_that_keeps_dying_is_started_ever_more_slowly(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        deaths = []
        for count in range(1, 6):
            [victim] = wait_until(weldr.worker_pids, "there is a worker")
            os.kill(victim, signal.SIGKILL)
            deaths.append(weldr.wait_logged("a worker died", count=count))
        # By the manager's clock: we may be told late.
        starts = [weldr.wait_logged("worker started", count=number) for number in range(1, 6)]
        pauses = [logged_s(start) - logged_s(death) for death, start in zip(deaths, starts[1:], strict=False)]
        assert pauses[-1] > 0.4, pauses
        assert weldr.admin_get("/healthz")[0] == 200


@pytest.mark.real_time
def test_readiness_ends_while_no_worker_runs_and_the_end_loses_nothing_that_is_queued(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        put_backends(etcd_server, etcd_prefix, b1=one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
        # Workers that die at once are started ever more slowly, which leaves time without any.
        for count in range(1, 6):
            [victim] = wait_until(weldr.worker_pids, "there is a worker")
            os.kill(victim, signal.SIGKILL)
            weldr.wait_logged("a worker died: it is replaced", count=count)
        assert weldr.worker_pids() == []
        assert weldr.admin_get("/readyz") == (503, "not ready: no worker is serving\n")
        with socket.create_connection(("127.0.0.1", weldr.port), timeout=30) as queued:
            queued.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            weldr.signal(signal.SIGTERM)
            assert queued.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
        assert weldr.wait() == 0


def test_a_killed_manager_takes_its_workers_down_after_what_is_in_flight(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        put_backends(etcd_server, etcd_prefix, b1=one.address)
        weldr.wait_ready()
        [worker] = weldr.worker_pids()
        one.hold()
        answers: list[tuple[int, str]] = []
        client = threading.Thread(target=lambda: answers.append(weldr.get(limit_s=30)))
        client.start()
        wait_until(lambda: one.waiting == 1, "the request is in flight")
        os.kill(weldr.pid, signal.SIGKILL)
        weldr.process.wait(30)
        one.release()
        client.join(60)
        assert answers == [(200, "one")]
        wait_until(lambda: not _alive(worker), "the worker has ended")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_traffic_flows_while_etcd_is_away_and_changes_are_taken_on_its_return(
    own_etcd: EtcdServer,
) -> None:
    with named_servers("one", "two") as (one, two), Instance(etcd=own_etcd.endpoint, workers=2) as weldr:
        put_backends(own_etcd, "/weldr/", b1=one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "one"), "the backend answers")
        load = Load(weldr.address, connections=8).start()
        wait_until(lambda: len(load.answers) > 100, "the load runs")
        own_etcd.stop()
        # Longer than the instance's own lease (10 s), which is lost meanwhile.
        weldr.wait_logged("the instance's lease was lost")
        # A worker that is replaced while etcd is away gets the catalog that the manager holds.
        before_s = time.monotonic()
        for worker in weldr.worker_pids():
            os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: "one" in load.names_since(killed + 0.5), "new workers serve without etcd")
        own_etcd.start()
        put_backends(own_etcd, "/weldr/", b2=two.address)
        wait_until(lambda: "two" in load.names_since(killed), "the backend added after the return is used")
        load.stop()
        failures = [answer for answer in load.failures() if answer.ended_s < before_s]
        assert not failures, failures[:5]
        assert len(load.failures()) <= 8
        assert len(weldr.logged("etcd is unreachable")) <= 2
        wait_until(
            lambda: own_etcd.etcdctl("get", "--prefix", "--keys-only", "/weldr/instances/").strip(),
            "the instance is back in etcd",
        )


def test_a_restored_etcd_is_taken_as_a_difference_that_cuts_nothing(
    own_etcd: EtcdServer, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    with (
        named_servers("one", "two", "three") as (one, two, three),
        Instance(etcd=own_etcd.endpoint) as weldr,
    ):
        put_backends(own_etcd, "/weldr/", b1=one.address, b2=two.address)
        weldr.wait_ready()
        load = Load(weldr.address, connections=1).start()
        own_etcd.etcdctl("snapshot", "save", str(backup))
        put_backends(own_etcd, "/weldr/", b3=three.address)
        wait_until(lambda: three.requests > 100, "all three are used")
        connections = one.connections, two.connections
        own_etcd.kill()
        own_etcd.restore(backup)
        own_etcd.start()
        weldr.wait_logged("all keys were read anew", reason="restored")
        weldr.wait_logged("backend left", backend="b3")
        requests = one.requests
        wait_until(lambda: one.requests > requests + 100, "the others are used on")
        load.stop()
        assert not load.failures(), load.failures()[:5]
        assert (one.connections, two.connections) == connections, "the connections to them were kept"


def test_all_backends_changed_in_one_transaction_change_at_one_instant_on_each_worker(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with (
        named_servers("old-1", "old-2", "old-3", "new-1", "new-2", "new-3") as servers,
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=3) as weldr,
    ):
        key = f"{etcd_prefix}backends/default/"
        put_backends(etcd_server, etcd_prefix, **{server.name: server.address for server in servers[:3]})
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "the old ones answer")
        load = Load(weldr.address, connections=30).start()
        wait_until(lambda: len(load.answers) > 500, "the load runs")
        lines = [f"del {key}{server.name}" for server in servers[:3]]
        lines += [f"put {key}{server.name} {server.address}" for server in servers[3:]]
        etcd_server.etcdctl("txn", stdin="\n" + "\n".join(lines) + "\n\n\n")
        changed = time.monotonic()
        wait_until(
            lambda: len([a for a in load.answers if a.body.startswith("new") and a.started_s > changed]) > 1000,
            "the new ones answer",
        )
        workers = worker_of_client_ports(weldr.worker_pids(), weldr.port)
        load.stop()
        assert not load.failures(), load.failures()[:5]
        assert set(workers.values()) == set(weldr.worker_pids()), "every worker has connections"
        for worker in set(workers.values()):
            answers = [answer for answer in load.answers if workers.get(answer.client_port) == worker]
            first_new_s = min(answer.ended_s for answer in answers if answer.body.startswith("new"))
            late = [a for a in answers if a.started_s > first_new_s and a.body.startswith("old")]
            assert not late, late[:5]
