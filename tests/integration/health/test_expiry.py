"""Leases that run out together, with a real etcd that lets them."""

from __future__ import annotations

import re
import time

import pytest

from tests.integration.health.conftest import Keys
from tests.support.etcd import EtcdServer
from tests.support.faulty import Fault, FaultyServer, faulty_servers
from tests.support.instance import Instance, wait_until
from tests.support.servers import Load


def register(keys: Keys, *servers: FaultyServer, ttl_s: int = 3600) -> list[str]:
    """Each under a lease of its own that nobody keeps alive."""
    leases = []
    for server in servers:
        lease = re.search(r"lease (\w+) granted", keys.etcd.etcdctl("lease", "grant", str(ttl_s)))
        assert lease is not None
        leases.append(lease[1])
        keys.etcd.etcdctl("put", f"--lease={lease[1]}", keys.key(server), server.address)
    return leases


@pytest.mark.real_time
def test_backends_that_answer_stay_when_their_leases_run_out_together(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c") as (a, b, c),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix, workers=2) as weldr,
    ):
        weldr.wait_ready()
        register(keys, a, b, c, ttl_s=2)
        wait_until(
            lambda: {weldr.get() for _ in range(10)} == {(200, "a"), (200, "b"), (200, "c")}, "all answer"
        )
        load = Load(weldr.address, connections=4).start()
        wait_until(
            lambda: not keys.etcd.etcdctl("get", "--prefix", f"{keys.prefix}backends/").strip(), "all expire"
        )
        for name in "abc":
            weldr.wait_logged("a backend stays without a lease", backend=name)
            weldr.wait_logged("why a backend left", backend=name, reason="its lease ran out or was revoked")
        problem = [
            "most leases of the service default ran out at once: 3 of its backends stay for as long as they "
            "answer, but not for long"
        ]
        # They run out one after the other, if all at once.
        wait_until(lambda: keys.instance(weldr)["problems"] == problem, "the problem shows")
        wait_until(lambda: keys.health(weldr, "a").get("state") == "expired", "the change is in etcd")
        settled = time.monotonic()
        wait_until(lambda: load.names_since(settled) == {"a", "b", "c"}, "all are used")
        b.fail(Fault.REFUSE)
        gone = weldr.wait_logged("a backend without a lease does not answer: it goes", backend="b")
        assert gone["reason"] == "it refused the connection"
        register(keys, a, c)
        wait_until(lambda: keys.instance(weldr)["problems"] == [], "the problem is over")
        weldr.wait_logged("a backend is healthy again", backend="a", reason="it is registered again")
        settled = time.monotonic()
        wait_until(lambda: load.names_since(settled) == {"a", "c"}, "those that are back are used")
        load.stop()
        assert not [answer for answer in load.failures() if answer.status != 502], load.failures()[:5]


@pytest.mark.real_time
def test_they_stay_for_a_set_time(keys: Keys) -> None:
    with (
        faulty_servers("a", "b") as (a, b),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        keys.service(expired_grace_s=2)
        weldr.wait_ready()
        leases = register(keys, a, b)
        wait_until(lambda: weldr.get()[0] == 200, "they answer")
        for lease in leases:
            keys.etcd.etcdctl("lease", "revoke", lease)
        weldr.wait_logged("a backend stays without a lease", count=2)
        assert weldr.get()[0] == 200
        wait_until(lambda: weldr.get()[0] == 503, "their time is over")
        wait_until(lambda: keys.instance(weldr)["problems"] == [], "the problem is over")
        assert keys.health(weldr, "a") == {}


def test_who_deletes_its_key_with_its_lease_alive_is_believed(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c") as (a, b, c),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        weldr.wait_ready()
        register(keys, a, b, c)
        wait_until(lambda: weldr.get()[0] == 200, "they answer")
        keys.etcd.etcdctl("del", "--prefix", f"{keys.prefix}backends/")
        weldr.wait_logged("why a backend left", reason="its key was deleted", count=3)
        wait_until(lambda: weldr.get()[0] == 503, "none is left")
        assert keys.instance(weldr)["problems"] == []
        assert not weldr.logged("a backend stays without a lease")


def test_a_single_lease_that_runs_out_takes_its_backend_along(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c") as (a, b, c),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        weldr.wait_ready()
        register(keys, a, b)
        [lease] = register(keys, c)
        wait_until(lambda: weldr.get() == (200, "c"), "it is used")
        keys.etcd.etcdctl("lease", "revoke", lease)
        weldr.wait_logged("why a backend left", backend="c", reason="its lease ran out or was revoked")
        served = c.requests
        assert {weldr.get() for _ in range(10)} == {(200, "a"), (200, "b")}
        assert c.requests == served


def test_dead_backends_whose_leases_run_out_together_are_gone_at_once(keys: Keys) -> None:
    with (
        faulty_servers("a", "b", "c") as (a, b, c),
        Instance(etcd=keys.etcd.endpoint, prefix=keys.prefix) as weldr,
    ):
        weldr.wait_ready()
        leases = register(keys, a, b, c)
        wait_until(lambda: weldr.get()[0] == 200, "they answer")
        for server in (a, b, c):
            server.fail(Fault.REFUSE)
        for lease in leases:
            keys.etcd.etcdctl("lease", "revoke", lease)
        weldr.wait_logged("a backend without a lease does not answer: it goes", count=2)
        wait_until(lambda: weldr.get()[0] == 503, "none is left")
        wait_until(lambda: keys.instance(weldr)["problems"] == [], "there is no problem")


def test_an_etcd_that_comes_back_empty_empties_no_pool(own_etcd: EtcdServer) -> None:
    keys = Keys(own_etcd, "/weldr/")
    with faulty_servers("a", "b") as (a, b), Instance(etcd=own_etcd.endpoint) as weldr:
        weldr.wait_ready()
        register(keys, a, b)
        wait_until(lambda: weldr.get()[0] == 200, "they answer")
        load = Load(weldr.address, connections=4).start()
        wait_until(lambda: len(load.answers) > 100, "the load runs")
        own_etcd.stop()
        own_etcd.wipe()
        own_etcd.start()
        weldr.wait_logged("a backend stays without a lease", count=2)
        register(keys, a, b)
        weldr.wait_logged("a backend is healthy again", count=2, reason="it is registered again")
        settled = time.monotonic()
        wait_until(lambda: load.names_since(settled) == {"a", "b"}, "both are used")
        load.stop()
        assert not load.failures(), load.failures()[:5]
