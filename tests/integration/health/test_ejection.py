"""Ejection by what workers see, through the whole program: nothing but the defaults, unless a test says
otherwise."""

from __future__ import annotations

import time

import pytest

from tests.integration.health.conftest import Keys
from tests.support.faulty import Fault, FaultyServer, faulty_servers
from tests.support.instance import Instance, logged_s, wait_until
from tests.support.servers import Load


def spared(weldr: Instance, server: FaultyServer) -> bool:
    """Whether requests go by it."""
    served = server.requests
    for _ in range(12):
        weldr.get()
    return server.requests == served


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.ERROR, "it answered with status 500"),
        (Fault.RESET, "the backend closed the connection without a response"),
        (Fault.TRUNCATE, "the backend closed before the response was complete"),
    ],
)
def test_a_backend_whose_requests_fail_is_ejected_after_five_and_comes_back_when_they_succeed(
    fault: Fault, reason: str, keys: Keys
) -> None:
    with (
        faulty_servers("good", "better", "bad") as (good, better, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(ejection={"first_s": 1}, retries={"attempts": 0})
        keys.backends(good, better, bad)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "bad"), "all are used")
        bad.fail(fault)
        began_s = time.monotonic()
        load = Load(weldr.address, connections=1).start()
        ejected = weldr.wait_logged("a backend is ejected", backend="bad")
        assert ejected["reason"].startswith("5 requests in a row failed, the last one: ")
        assert reason in ejected["reason"]
        wait_until(lambda: keys.health(weldr, "bad").get("state") == "ejected", "the change is in etcd")
        failed = len(load.failures())
        # One more for each time that it was on trial since, of which the first comes after a second.
        assert 5 <= failed <= 5 + int(time.monotonic() - began_s)
        bad.fail(Fault.NONE)
        weldr.wait_logged("a backend is healthy again", backend="bad")
        wait_until(lambda: keys.health(weldr, "bad").get("state") == "up", "the change back is in etcd")
        wait_until(lambda: load.answers[-1].body == "bad", "it is used again")
        load.stop()
        # Whatever was on trial while it still failed was one request each time.
        assert len(load.failures()) <= failed + 3


def test_a_backend_that_refuses_connections_is_ejected_without_a_failed_request(keys: Keys) -> None:
    with (
        faulty_servers("good", "better", "bad") as (good, better, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix, workers=2) as weldr,
    ):
        keys.backends(good, better, bad)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "bad"), "all are used")
        load = Load(weldr.address, connections=8).start()
        wait_until(lambda: len(load.answers) > 200, "the load runs")
        bad.fail(Fault.REFUSE)
        refused = time.monotonic()
        ejected = weldr.wait_logged("a backend is ejected", backend="bad")
        assert (
            ejected["reason"]
            == "5 requests in a row failed, the last one: the backend refused the connection; out for 10 s"
        )
        load.stop()
        # Those that it was answering when it went are lost with it.
        assert not [answer for answer in load.failures() if answer.started_s > refused]


@pytest.mark.real_time
def test_a_backend_that_does_not_answer_in_time_is_ejected(keys: Keys) -> None:
    with (
        faulty_servers("good", "better", "bad") as (good, better, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(timeouts={"response_s": 1})
        keys.backends(good, better, bad)
        weldr.wait_ready()
        bad.fail(Fault.HANG)
        load = Load(weldr.address, connections=10).start()
        ejected = weldr.wait_logged("a backend is ejected", backend="bad")
        assert ejected["reason"].endswith("the backend did not respond in time; out for 10 s")
        load.stop()
        assert {answer.status for answer in load.failures()} == {504}
        assert spared(weldr, bad)


@pytest.mark.real_time
def test_a_backend_that_asks_for_rest_gets_it_at_the_first_word(keys: Keys) -> None:
    with (
        faulty_servers("good", "better", "busy") as (good, better, busy),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(retries={"attempts": 0})
        keys.backends(good, better, busy)
        weldr.wait_ready()
        wait_until(lambda: weldr.get() == (200, "busy"), "all are used")
        busy.fail(Fault.BUSY)
        load = Load(weldr.address, connections=1).start()
        resting = weldr.wait_logged("a backend asks for rest", backend="busy")
        assert resting["reason"] == "it answered 503 and asked for 2 s"
        assert spared(weldr, busy)
        assert len(load.failures()) == 1
        busy.fail(Fault.NONE)
        weldr.wait_logged("a backend is healthy again", backend="busy")
        wait_until(lambda: load.answers[-1].body == "busy", "it is used again")
        load.stop()
        assert len(load.failures()) == 1


def test_never_more_than_half_of_a_service_is_ejected_whatever_fails(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c", "d") as servers,
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.backends(*servers)
        weldr.wait_ready()
        for server in servers:
            server.fail(Fault.ERROR)
        for _ in range(100):
            weldr.get()
        weldr.wait_logged("a backend is ejected", count=2)
        served = [server.requests for server in servers]
        for _ in range(20):
            assert weldr.get()[0] == 500
        used = [server.requests > before for server, before in zip(servers, served, strict=True)]
        assert sum(used) == 2
        assert len(weldr.logged("a backend is ejected")) == 2


def test_in_panic_all_are_used_but_a_drained_one_and_it_shows_as_a_problem(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c", "drained") as (a, b, c, drained),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(health={"path": "/health", "interval_s": 0.2})
        keys.backends(a, b, c, drained)
        keys.etcd.etcdctl("put", f"{keys.prefix}overrides/default/drained", '{"drain": true}')
        weldr.wait_ready()
        for server in (a, b):
            server.fail(Fault.NONE, Fault.ERROR)
        weldr.wait_logged("a backend is down", count=2)
        weldr.wait_logged("too few backends of the service default are healthy: all are used")
        assert {weldr.get()[1] for _ in range(30)} == {"a", "b", "c"}
        assert drained.requests == 0
        problems = wait_until(lambda: keys.instance(weldr)["problems"], "the problem shows")
        assert problems == ["too few backends of the service default are healthy: all are used"]
        a.fail(Fault.NONE)
        wait_until(lambda: keys.instance(weldr)["problems"] == [], "the problem is over")
        wait_until(lambda: {weldr.get()[1] for _ in range(12)} == {"a", "c"}, "who is down is spared again")


@pytest.mark.real_time
def test_a_flapping_backend_is_out_for_longer_each_time(keys: Keys) -> None:
    with (
        faulty_servers("good", "better", "bad") as (good, better, bad),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(ejection={"first_s": 0.5})
        keys.backends(good, better, bad)
        weldr.wait_ready()
        load = Load(weldr.address, connections=2).start()
        told, times_out_s = [], []
        for count in range(1, 4):
            bad.fail(Fault.ERROR)
            ejected = weldr.wait_logged("a backend is ejected", backend="bad", count=count)
            bad.fail(Fault.NONE)
            healthy = weldr.wait_logged("a backend is healthy again", backend="bad", count=count)
            told.append(float(ejected["reason"].rpartition("out for ")[2].removesuffix(" s")))
            times_out_s.append(logged_s(healthy) - logged_s(ejected))
        load.stop()
        assert told[0] < told[2], told
        # Told in whole seconds, by a worker that says every now and then who is out.
        for lasted_s, out_s in zip(times_out_s, told, strict=True):
            assert lasted_s > out_s - 1, times_out_s
