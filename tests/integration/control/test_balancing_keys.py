"""Balancing from keys: the key of sticky cookies, the instance's zone, weights and drain at once."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.servers import named_servers


def ask(weldr: Instance, cookie: str = "") -> tuple[str, str]:
    """The body, and what a browser would send back."""
    headers = {"Cookie": cookie} if cookie else {}
    asked = urllib.request.Request(f"http://{weldr.address}/", headers=headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        given = answer.headers.get("Set-Cookie", "").partition(";")[0]
        return answer.read().decode(), given


def test_two_instances_sign_alike_with_a_key_that_the_first_has_made(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    key = f"{etcd_prefix}sticky_key"
    with (
        named_servers("one", "two", "three") as servers,
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as first,
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as second,
    ):
        first.wait_ready()
        second.wait_ready()
        for server in servers:
            etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/{server.name}", server.address)
        assert etcd_server.etcdctl("get", "--print-value-only", key).strip() == ""
        etcd_server.etcdctl("put", f"{etcd_prefix}services/default", json.dumps({"balance": {"sticky": {}}}))
        wait_until(lambda: ask(first)[1] and ask(second)[1], "both give cookies")
        secret = json.loads(etcd_server.etcdctl("get", "--print-value-only", key))["key"]
        name, cookie = ask(first)
        for instance in (first, second) * 5:
            assert ask(instance, cookie) == (name, "")
        # Who deletes it has another one made, and all cookies are void.
        etcd_server.etcdctl("del", key)
        wait_until(
            lambda: etcd_server.etcdctl("get", "--print-value-only", key).strip(), "there is a key once more"
        )
        wait_until(lambda: ask(first, cookie)[1] and ask(second, cookie)[1], "the old cookie is void")
        for instance in (first, second):
            assert not any(secret in line for line in instance.lines)


def test_a_key_that_cannot_be_understood_is_a_problem_and_stays_as_it_is(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    key = f"{etcd_prefix}sticky_key"
    etcd_server.etcdctl("put", key, "no secret of mine")
    etcd_server.etcdctl("put", f"{etcd_prefix}services/default", json.dumps({"balance": {"sticky": {}}}))
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/one", one.address)
        weldr.wait_ready()
        wait_until(lambda: weldr.get()[0] == 200, "it is served without cookies")
        assert ask(weldr) == ("one", "")
        assert etcd_server.etcdctl("get", "--print-value-only", key).strip() == "no secret of mine"
        weldr.wait_logged("cannot be understood", key=key)
        assert not any("no secret of mine" in line for line in weldr.lines)


def test_the_backends_of_the_instances_zone_are_preferred(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with named_servers("near", "far") as (near, far):
        for server, zone in ((near, "a"), (far, "b")):
            value = json.dumps({"url": server.address, "zone": zone})
            etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/{server.name}", value)
        with Instance("--zone", "a", etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as weldr:
            weldr.wait_ready()
            assert Counter(weldr.get()[1] for _ in range(20)) == {"near": 20}
            drain = json.dumps({"drain": True})
            etcd_server.etcdctl("put", f"{etcd_prefix}overrides/default/near", drain)
            wait_until(lambda: weldr.get() == (200, "far"), "the other zone takes over")
            assert {weldr.get()[1] for _ in range(20)} == {"far"}
