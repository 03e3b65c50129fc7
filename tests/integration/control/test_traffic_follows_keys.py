"""From a key in etcd to a proxied request, through the real command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.etcd import EtcdServer
from tests.support.instance import Instance, wait_until
from tests.support.servers import named_servers

FAKETIME = list(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def test_a_backend_put_with_etcdctl_gets_requests_and_one_deleted_gets_none(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    with (
        named_servers("one", "two") as (one, two),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        weldr.wait_ready()
        assert weldr.get()[0] == 503
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        wait_until(lambda: weldr.get() == (200, "one"), "the first backend answers")
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b2", two.address)
        weldr.wait_logged("backend is in rotation", backend="b2")
        assert {weldr.get()[1] for _ in range(10)} == {"one", "two"}
        etcd_server.etcdctl("del", f"{etcd_prefix}backends/default/b1")
        weldr.wait_logged("backend left", backend="b1")
        assert {weldr.get()[1] for _ in range(10)} == {"two"}
        etcd_server.etcdctl("del", "--prefix", etcd_prefix)
        weldr.wait_logged("service left, with its backends", service="default")
        status, body = weldr.get()
        assert status == 503
        assert body.count("\n") == 1


def test_a_backend_is_in_rotation_only_while_its_lease_lives(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        lease = etcd_server.etcdctl("lease", "grant", "60").split()[1]
        etcd_server.etcdctl("put", f"--lease={lease}", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_logged("backend is in rotation", backend="b1")
        assert weldr.get() == (200, "one")
        etcd_server.etcdctl("lease", "revoke", lease)
        weldr.wait_logged("service left, with its backends")
        assert weldr.get()[0] == 503


def test_routes_send_requests_by_host_and_path(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        named_servers("shop", "cart", "other") as servers,
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        for server, service in zip(servers, ("shop", "cart", "default"), strict=True):
            etcd_server.etcdctl("put", f"{etcd_prefix}backends/{service}/b1", server.address)
        routes = {
            "shop": {"host": "shop.example", "service": "shop"},
            "cart": {"host": "shop.example", "path": "/cart", "service": "cart"},
            "wild": {"host": "*.shop.example", "service": "shop"},
            "gone": {"path": "/gone", "service": "nobody"},
        }
        for name, route in routes.items():
            etcd_server.etcdctl("put", f"{etcd_prefix}routes/{name}", json.dumps(route))
        weldr.wait_ready()
        expected = {
            ("shop.example", "/"): "shop",
            ("SHOP.example:8080", "/cartoon"): "shop",
            ("shop.example", "/cart"): "cart",
            ("shop.example", "/cart/x?y"): "cart",
            ("a.shop.example", "/cart"): "shop",
            ("elsewhere.example", "/cart"): "other",
        }
        for (host, path), name in expected.items():
            assert weldr.get(path, host=host) == (200, name), (host, path)
        assert weldr.get("/gone/x", host="any.example")[0] == 503


def test_the_operators_drain_beats_the_backends_own_word(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        named_servers("one", "two") as (one, two),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr,
    ):
        for name, server in (("b1", one), ("b2", two)):
            etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/{name}", server.address)
        weldr.wait_ready()
        etcd_server.etcdctl("put", f"{etcd_prefix}overrides/default/b1", '{"drain": true}')
        weldr.wait_logged("backend is draining", backend="b1")
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", json.dumps({"url": one.address}))
        etcd_server.etcdctl("put", f"{etcd_prefix}routes/after", '{"service": "x", "host": "x"}')
        weldr.wait_logged("route is in force", route="after")
        assert {weldr.get()[1] for _ in range(10)} == {"two"}
        etcd_server.etcdctl("del", f"{etcd_prefix}overrides/default/b1")
        weldr.wait_logged("backend is in rotation", backend="b1")
        assert {weldr.get()[1] for _ in range(10)} == {"one", "two"}


def test_an_override_ends_at_its_time(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with named_servers("one") as (one,), Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()

        def drain(for_s: float) -> None:
            until = (datetime.now(UTC) + timedelta(seconds=for_s)).isoformat()
            value = json.dumps({"drain": True, "until": until})
            etcd_server.etcdctl("put", f"{etcd_prefix}overrides/default/b1", value)

        drain(3600)
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_logged("backend is draining", backend="b1")
        assert weldr.get()[0] == 503
        drain(1)
        weldr.wait_logged("backend is in rotation", backend="b1")
        assert weldr.get() == (200, "one")


@pytest.mark.skipif(not FAKETIME, reason="takes libfaketime (Debian: apt install faketime)")
def test_an_override_ends_by_the_clock_as_it_is_set(
    etcd_server: EtcdServer, etcd_prefix: str, tmp_path: Path
) -> None:
    """Ahead, as after a host was suspended, and back, as where it had been wrong."""
    clock = tmp_path / "clock"

    def set_clock(shift: str) -> None:
        (tmp_path / "next").write_text(shift)
        (tmp_path / "next").rename(clock)

    set_clock("+0")
    environment = {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME_TIMESTAMP_FILE": str(clock)}
    environment |= {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    etcd_server.etcdctl(
        "put", f"{etcd_prefix}overrides/default/b1", json.dumps({"drain": True, "until": until})
    )
    with (
        named_servers("one") as (one,),
        Instance(etcd=etcd_server.endpoint, prefix=etcd_prefix, environment=environment) as weldr,
    ):
        weldr.wait_ready()
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        weldr.wait_logged("backend is draining", backend="b1")
        set_clock("+2h")
        weldr.wait_logged("backend is in rotation", backend="b1")
        assert weldr.get() == (200, "one")
        set_clock("+0")
        weldr.wait_logged("backend is draining", backend="b1", count=2)
        assert weldr.get()[0] == 503


def test_an_instance_says_in_etcd_what_it_has_applied(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    with (
        named_servers("one") as (one,),
        Instance("--instance", "first", etcd=etcd_server.endpoint, prefix=etcd_prefix, workers=2) as weldr,
    ):
        weldr.wait_ready()
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b1", one.address)
        etcd_server.etcdctl("put", f"{etcd_prefix}backends/default/b2", "not an address")

        def described() -> dict[str, object] | None:
            text = etcd_server.etcdctl("get", "--print-value-only", f"{etcd_prefix}instances/first").strip()
            value: dict[str, object] = json.loads(text) if text else {}
            return value if value.get("problem_count") == 1 else None

        value = wait_until(described, "the instance names the problem")
        assert value["addresses"] == weldr.addresses
        assert value["admin"] == weldr.admin
        assert value["draining"] == {}
        assert "/backends/default/b2 at revision" in value["problems"][0]

        def applied() -> bool:
            read = json.loads(etcd_server.etcdctl("get", "-w", "json", f"{etcd_prefix}backends/default/b2"))
            found = described()
            return found is not None and found["applied"] == read["kvs"][0]["mod_revision"]

        wait_until(applied, "the instance has applied the last change of configuration")
        weldr.signal(15)
        assert weldr.wait() == 0
        gone = etcd_server.etcdctl("get", "--print-value-only", f"{etcd_prefix}instances/first")
        assert not gone.strip(), "the key goes with the instance"


def test_an_instances_key_that_somebody_deleted_comes_back(etcd_server: EtcdServer, etcd_prefix: str) -> None:
    key = f"{etcd_prefix}instances/first"
    with Instance("--instance", "first", etcd=etcd_server.endpoint, prefix=etcd_prefix) as weldr:
        weldr.wait_ready()
        for _ in range(2):
            wait_until(lambda: etcd_server.etcdctl("get", key).strip(), "the instance is in etcd")
            etcd_server.etcdctl("del", key)
        wait_until(lambda: etcd_server.etcdctl("get", key).strip(), "the instance is back in etcd")


def test_two_instances_of_one_name_are_told_apart_by_an_error(
    etcd_server: EtcdServer, etcd_prefix: str
) -> None:
    arguments = ("--instance", "same")
    with Instance(*arguments, etcd=etcd_server.endpoint, prefix=etcd_prefix) as first:
        first.wait_ready()
        with Instance(*arguments, etcd=etcd_server.endpoint, prefix=etcd_prefix) as second:
            second.wait_ready()
            first.wait_logged("another instance uses this instance's name")
