"""Active checks: real backends that fail in each way, a real instance, a real etcd."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.integration.health.conftest import Keys
from tests.support.etcd import EtcdServer
from tests.support.faulty import Fault, faulty_servers
from tests.support.instance import Instance, wait_until
from tests.support.servers import Load

# The servers that are asked are in this process, which may be held up for longer than an answer may take.
QUICK = {"path": "/health", "interval_s": 0.2, "timeout_s": 10}
IMPATIENT = QUICK | {"timeout_s": 0.3}


@pytest.mark.parametrize(
    ("fault", "check", "reason"),
    [
        (Fault.ERROR, QUICK, "it answered with status 500, not 200-399"),
        pytest.param(
            Fault.HANG, IMPATIENT, "it did not answer within 0.3 s", marks=pytest.mark.real_time, id="HANG"
        ),
        (Fault.RESET, QUICK, "it broke the connection"),
    ],
)
def test_a_backend_whose_checks_fail_leaves_the_rotation_and_comes_back(
    fault: Fault, check: dict[str, object], reason: str, keys: Keys
) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix, workers=2) as weldr,
    ):
        keys.service(health=check)
        keys.backends(good, bad)
        weldr.wait_ready()
        # Its requests succeed all the while: nothing but the checks can know.
        bad.fail(Fault.NONE, fault)
        down = weldr.wait_logged("a backend is down", backend="bad")
        assert down["reason"] == f"3 checks in a row failed, the last one: {reason}"
        served = bad.requests
        assert {weldr.get() for _ in range(20)} == {(200, "good")}
        assert bad.requests == served
        said = wait_until(lambda: keys.health(weldr, "bad"), "the change is in etcd")
        assert (said["state"], said["reason"]) == ("down", down["reason"])
        assert said["address"] == bad.address
        assert keys.health(weldr, "good") == {}
        bad.fail(Fault.NONE)
        weldr.wait_logged("a backend is healthy again", backend="bad")
        wait_until(lambda: weldr.get() == (200, "bad"), "it is used again")
        wait_until(lambda: keys.health(weldr, "bad")["state"] == "up", "the change back is in etcd")


def test_a_check_of_connections_needs_no_answer(keys: Keys) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(health={"type": "tcp", "interval_s": 0.2, "timeout_s": 10})
        keys.backends(good, bad)
        weldr.wait_ready()
        bad.fail(Fault.REFUSE)
        down = weldr.wait_logged("a backend is down", backend="bad")
        assert down["reason"].endswith("it refused the connection")
        bad.fail(Fault.NONE)
        weldr.wait_logged("a backend is healthy again", backend="bad")
        assert good.checks == bad.checks == 0


def test_the_body_of_an_answer_counts_where_it_is_asked_for(keys: Keys) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(health=QUICK | {"body": "good"})
        keys.backends(good, bad)
        weldr.wait_ready()
        down = weldr.wait_logged("a backend is down")
        assert down["backend"] == "bad"
        assert down["reason"].endswith("the body of its answer does not hold 'good'")


def test_a_required_check_comes_before_the_first_request(keys: Keys) -> None:
    with (
        faulty_servers("old", "new") as (old, new),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix, workers=2) as weldr,
    ):
        keys.service(health=QUICK | {"require_check": True})
        keys.backends(old)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "old"), "the first one has passed")
        load = Load(weldr.address, connections=10).start()
        new.fail(Fault.NONE, Fault.ERROR)
        keys.backends(new)
        wait_until(lambda: new.checks > 5, "the new one is asked")
        assert new.requests == 0
        new.fail(Fault.NONE)
        wait_until(lambda: new.requests > 100, "it is used once it has passed")
        load.stop()
        assert not load.failures(), load.failures()[:5]


def test_an_instance_is_ready_only_after_the_first_required_checks(keys: Keys) -> None:
    with faulty_servers("one") as (one,):
        one.fail(Fault.NONE, Fault.HANG)
        keys.service(health=QUICK | {"require_check": True, "timeout_s": 60})
        keys.backends(one)
        with Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr:
            weldr.wait_running()
            wait_until(lambda: one.checks, "the check is under way")
            wait_until(
                lambda: (
                    weldr.admin_get("/readyz")
                    == (503, "not ready: not every backend that has to pass a check has been asked yet\n")
                ),
                "it is not ready",
            )
            one.fail(Fault.NONE, Fault.ERROR)
            weldr.wait_ready()
            assert weldr.admin_get("/readyz")[0] == 200, "one that fails is no reason to wait for ever"


def test_without_any_that_has_passed_a_required_check_the_answer_says_so(keys: Keys) -> None:
    with faulty_servers("new") as (new,), Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr:
        new.fail(Fault.NONE, Fault.ERROR)
        keys.service(health=QUICK | {"require_check": True})
        keys.backends(new)
        weldr.wait_ready()
        status, body = wait_until(
            lambda: (answer := weldr.get())[1].find("first check") >= 0 and answer, "it says why"
        )
        assert status == 503
        assert "every backend of the service default has yet to pass a first check" in body
        assert new.requests == 0


def test_a_replaced_worker_knows_who_is_down(keys: Keys) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        bad.fail(Fault.NONE, Fault.ERROR)
        keys.service(health=QUICK)
        keys.backends(good, bad)
        weldr.wait_ready()
        weldr.wait_logged("a backend is down", backend="bad")
        served = bad.requests
        os.kill(weldr.worker_pids()[0], signal.SIGKILL)
        assert {weldr.get() for _ in range(20)} == {(200, "good")}
        assert bad.requests == served


def test_a_change_of_health_is_no_change_of_configuration(keys: Keys) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(health=QUICK)
        keys.backends(good, bad)
        weldr.wait_ready()
        put = wait_until(
            lambda: (said := keys.instance(weldr)) and not said["problems"] and said, "the instance is there"
        )
        wait_until(lambda: good.checks > 2 and bad.checks > 2, "both are checked")
        before = wait_until(lambda: keys.instance(weldr), "the instance is there")["applied"]
        bad.fail(Fault.NONE, Fault.ERROR)
        wait_until(lambda: keys.health(weldr, "bad"), "the change is in etcd")
        assert keys.instance(weldr)["applied"] == before
        assert put["started"] == keys.instance(weldr)["started"]


@pytest.mark.real_time
def test_a_backend_that_stalls_under_load_is_out_at_the_first_failed_check(keys: Keys) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        # By itself the next check is an hour away, three have to fail, and no request ever does.
        check = {"path": "/health", "interval_s": 3600, "timeout_s": 1}
        keys.service(health=check, timeouts={"response_s": 3600})
        keys.backends(good, bad)
        weldr.wait_ready()
        wait_until(lambda: good.checks == bad.checks == 1, "both have passed")
        bad.fail(Fault.HANG)
        with contextlib.ExitStack() as stack:
            down = None
            limit_s = time.monotonic() + 30
            while down is None and time.monotonic() < limit_s:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", weldr.port)))
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                time.sleep(0.1)
                down = next(iter(weldr.logged("a backend is down")), None)
        bad.fail(Fault.NONE)
        assert down is not None
        assert down["backend"] == "bad"
        assert down["reason"] == (
            "1 check failed, the last one: it did not answer within 1 s; and its requests fail"
        )
        assert good.checks == 1


@pytest.mark.real_time
def test_an_instance_that_stood_still_blames_no_backend(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c", "d") as servers,
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(health={"path": "/health", "interval_s": 0.1, "timeout_s": 0.5, "fall": 1})
        keys.backends(*servers)
        weldr.wait_ready()
        for _ in range(3):
            checks = [server.checks for server in servers]
            weldr.signal(signal.SIGSTOP)
            time.sleep(1.0)
            weldr.signal(signal.SIGCONT)
            wait_until(
                lambda before=checks: all(
                    server.checks > seen + 5 for server, seen in zip(servers, before, strict=True)
                ),
                "checks go on",
            )
        assert not weldr.logged("a backend is down")


def test_checks_end_with_their_policy_and_with_their_backend(keys: Keys) -> None:
    with (
        faulty_servers("good", "bad") as (good, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        bad.fail(Fault.NONE, Fault.ERROR)
        keys.service(health=QUICK)
        keys.backends(good, bad)
        weldr.wait_ready()
        weldr.wait_logged("a backend is down", backend="bad")
        wait_until(lambda: keys.health(weldr, "bad"), "the change is in etcd")
        keys.service()
        wait_until(lambda: weldr.get() == (200, "bad"), "who is not checked is used")
        keys.service(health=QUICK)
        weldr.wait_logged("a backend is down", backend="bad", count=2)
        keys.etcd.etcdctl("del", keys.key(bad))
        wait_until(lambda: keys.health(weldr, "bad") == {}, "the key goes with its backend")
        checks = bad.checks
        wait_until(
            lambda: (seen := good.checks) and _later(lambda: good.checks > seen + 5), "good is checked on"
        )
        assert bad.checks <= checks + 1


def _later(condition: object) -> bool:
    return bool(wait_until(condition, "more checks"))  # type: ignore[arg-type]


def test_a_backend_is_checked_for_each_service_by_itself_and_moves_with_its_address(keys: Keys) -> None:
    with (
        faulty_servers("one", "two", "three") as (one, two, three),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        one.fail(Fault.NONE, Fault.ERROR)
        keys.service(health=QUICK)
        keys.backends(one, two, three)
        keys.etcd.etcdctl("put", f"{keys.prefix}backends/other/one", one.address)
        keys.etcd.etcdctl("put", f"{keys.prefix}routes/other", '{"host": "other", "service": "other"}')
        weldr.wait_ready()
        weldr.wait_logged("a backend is down", backend="one", service="default")
        assert weldr.get(host="other") == (200, "one"), "the other service has no checks"
        keys.etcd.etcdctl("put", keys.key(one), two.address)
        wait_until(lambda: keys.health(weldr, "one") == {}, "at another address it begins anew")
        assert not weldr.logged("a backend is down", backend="two")


def test_without_etcd_checks_go_on_and_no_pool_is_emptied(own_etcd: EtcdServer) -> None:
    keys = Keys(own_etcd, "/weldr/")
    with faulty_servers("good", "bad") as (good, bad), Instance(etcd=own_etcd.endpoint, workers=2) as weldr:
        keys.service(health=QUICK)
        keys.backends(good, bad)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "bad"), "both are used")
        load = Load(weldr.address, connections=4).start()
        own_etcd.stop()
        weldr.wait_logged("the instance's lease was lost")
        bad.fail(Fault.NONE, Fault.ERROR)
        weldr.wait_logged("a backend is down", backend="bad")
        settled = time.monotonic() + 0.2
        wait_until(lambda: time.monotonic() > settled and load.names_since(settled), "the load goes on")
        assert load.names_since(settled) == {"good"}
        good.fail(Fault.NONE, Fault.ERROR)
        weldr.wait_logged("a backend is down", backend="good")
        weldr.wait_logged("too few backends of the service default are healthy: all are used")
        good.fail(Fault.NONE)
        weldr.wait_logged("a backend is healthy again", backend="good")
        own_etcd.start()
        wait_until(lambda: keys.health(weldr, "bad").get("state") == "down", "what changed is told on return")
        load.stop()
        assert not load.failures(), load.failures()[:5]


def test_a_backend_that_is_down_stays_so_when_the_catalog_is_read_anew(
    own_etcd: EtcdServer, tmp_path: Path
) -> None:
    keys = Keys(own_etcd, "/weldr/")
    with faulty_servers("good", "bad") as (good, bad), Instance(etcd=own_etcd.endpoint) as weldr:
        bad.fail(Fault.NONE, Fault.ERROR)
        keys.service(health=QUICK | {"interval_s": 3})
        keys.backends(good, bad)
        weldr.wait_ready()
        weldr.wait_logged("a backend is down", backend="bad")
        served = bad.requests
        backup = tmp_path / "backup"
        own_etcd.etcdctl("snapshot", "save", str(backup))
        own_etcd.etcdctl("put", "/weldr/services/another", "{}")
        own_etcd.stop()
        own_etcd.restore(backup)
        own_etcd.start()
        weldr.wait_logged("all keys were read anew")
        assert {weldr.get() for _ in range(20)} == {(200, "good")}
        assert bad.requests == served
        assert len(weldr.logged("a backend is down")) == 1
