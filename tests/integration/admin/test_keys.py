"""The collections over HTTP: what is written is what etcd has, and what is read is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.admin import Api
from tests.support.instance import wait_until
from tests.support.servers import named_servers
from tests.support.site import Site
from tests.support.tls import Authority
from weldr.model.collections import COLLECTIONS


def test_a_key_is_created_read_changed_and_removed(site: Site, api: Api) -> None:
    path = "/api/v1/routes/life"
    assert api.get(path).status == 404
    created = api.put(path, {"service": "shop"})
    assert created.status == 201
    assert created.json["outcomes"][0]["action"] == "create"
    assert json.loads(site.value("routes/life")) == {"service": "shop"}
    read = api.get(path)
    assert (read.status, read.json, read.etag) == (200, {"service": "shop"}, created.etag)
    changed = api.patch(path, {"host": "shop.example", "service": "other"})
    assert changed.status == 200
    assert int(changed.etag.strip('"')) > int(created.etag.strip('"'))
    assert api.get(path).json == {"service": "other", "host": "shop.example"}
    assert api.patch(path, {"host": None}).status == 200
    assert json.loads(site.value("routes/life")) == {"service": "other"}
    assert api.delete(path).status == 200
    assert api.get(path).status == 404
    assert site.value("routes/life") == ""


def test_the_etag_is_the_revision_that_etcd_has(site: Site, api: Api) -> None:
    etag = api.put("/api/v1/services/etag", {}).etag
    read = json.loads(site.etcd.etcdctl("get", "-w", "json", site.prefix + "services/etag"))
    assert etag == f'"{read["kvs"][0]["mod_revision"]}"'


def test_a_backend_can_be_put_with_curl_as_with_etcdctl(site: Site, api: Api) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert api.call("PUT", "/api/v1/backends/plain/b1", b"127.0.0.1:9001", form).status == 201
    assert site.value("backends/plain/b1") == "127.0.0.1:9001"
    assert api.get("/api/v1/backends/plain/b1").json == "127.0.0.1:9001"
    assert api.put("/api/v1/backends/plain/b2", "127.0.0.1:9002").status == 201
    assert site.value("backends/plain/b2") == "127.0.0.1:9002"
    assert api.patch("/api/v1/backends/plain/b2", {"weight": 5}).status == 200
    assert json.loads(site.value("backends/plain/b2")) == {"url": "127.0.0.1:9002", "weight": 5}
    listed = api.get("/api/v1/backends/plain").json["items"]
    assert [item["key"] for item in listed] == ["backends/plain/b1", "backends/plain/b2"]


def test_names_are_what_etcd_has_byte_by_byte(site: Site, api: Api) -> None:
    assert api.put("/api/v1/routes/a%20b%C3%A9%5C", {"service": "x"}).status == 201
    assert site.value("routes/a bé\\") != ""
    assert api.put("/api/v1/routes/%ff", {"service": "x"}).status == 201
    keys = {item["key"] for item in api.get("/api/v1/routes").json["items"]}
    assert {"routes/a bé\\\\", "routes/\\xff"} <= keys
    assert api.delete("/api/v1/routes/%FF").status == 200


def test_writing_the_same_again_changes_nothing(api: Api) -> None:
    first = api.put("/api/v1/services/same", b'{"limits": {"pending_requests": 5}}')
    again = api.put("/api/v1/services/same", b'{"limits":{"pending_requests":5}}')
    assert (again.status, again.etag) == (200, first.etag)
    assert again.json["outcomes"][0]["action"] == "keep"


def test_a_dry_run_tells_what_would_change_and_changes_nothing(site: Site, api: Api) -> None:
    api.put("/api/v1/services/dry", {"timeouts": {"read_s": 1}})
    before = site.configuration()
    answer = api.patch("/api/v1/services/dry?dry_run=1", {"timeouts": {"read_s": 2}}).json
    assert (answer["before"], answer["after"]) == ({"timeouts": {"read_s": 1}}, {"timeouts": {"read_s": 2}})
    assert answer["outcomes"][0]["action"] == "update"
    assert api.delete("/api/v1/services/dry?dry_run=true").json["after"] is None
    assert api.put("/api/v1/services/dry2?dry_run=1", {}).json["outcomes"][0]["action"] == "create"
    assert api.put("/api/v1/backends/dry/b?dry_run=1&ttl=5", "127.0.0.1:1").status == 200
    operations = [{"op": "delete", "key": "services/dry"}]
    assert api.post("/api/v1/transaction?dry_run=1", {"operations": operations}).status == 200
    assert site.configuration() == before


def test_a_write_keeps_the_lease_that_a_key_lives_under(site: Site, api: Api) -> None:
    lease = site.etcd.etcdctl("lease", "grant", "60").split()[1]
    site.put("backends/leased/b1", "127.0.0.1:9001", f"--lease={lease}")
    answer = api.patch("/api/v1/backends/leased/b1", {"drain": True})
    assert answer.status == 200
    (item,) = api.get("/api/v1/backends/leased").json["items"]
    assert item["value"]["drain"] is True
    assert item["lease"] == lease.lstrip("0")


def test_the_settings_are_one_key(site: Site, api: Api) -> None:
    assert api.put("/api/v1/settings", {"forwarded_fields": "both"}).status == 201
    assert api.get("/api/v1/settings").json == {"forwarded_fields": "both"}
    assert api.delete("/api/v1/settings").status == 200


def test_many_keys_change_in_one_revision(site: Site, api: Api) -> None:
    api.put("/api/v1/routes/old", {"service": "x"})
    operations = [
        {"op": "delete", "key": "routes/old"},
        {"op": "put", "key": "backends/txn/b1", "value": "127.0.0.1:1", "if_revision": 0},
        {"op": "put", "key": "routes/new", "value": {"service": "txn"}},
    ]
    answer = api.post("/api/v1/transaction", {"operations": operations})
    assert answer.status == 200
    revision = answer.json["revision"]
    assert [found["new_revision"] for found in answer.json["outcomes"]] == [0, revision, revision]
    assert site.value("routes/old") == ""
    patch = [{"op": "patch", "key": "routes/new", "value": {"path": "/x"}, "if_revision": revision}]
    assert api.post("/api/v1/transaction", {"operations": patch}).status == 200
    assert api.get("/api/v1/routes/new").json == {"service": "txn", "path": "/x"}


def test_a_transaction_of_which_one_part_is_refused_changes_nothing(site: Site, api: Api) -> None:
    api.put("/api/v1/routes/kept", {"service": "x"})
    before = site.configuration()
    for wrong in (
        {"op": "put", "key": "routes/b", "value": {"servce": "x"}},
        {"op": "put", "key": "routes/kept", "value": {"service": "y"}, "if_revision": 1},
        {"op": "patch", "key": "routes/none", "value": {}},
        {"op": "put", "key": "instances/i", "value": {}},
        {"op": "delete", "key": "routes/a"},
    ):
        operations = [{"op": "put", "key": "routes/a", "value": {"service": "x"}}, wrong]
        answer = api.post("/api/v1/transaction", {"operations": operations})
        assert answer.status in (412, 422), wrong
        assert site.configuration() == before


def test_the_past_can_be_read_until_it_is_compacted(site: Site, api: Api) -> None:
    first = api.put("/api/v1/routes/past", {"service": "one"})
    api.put("/api/v1/routes/past", {"service": "two"})
    revision = first.json["revision"]
    assert api.get(f"/api/v1/routes/past?revision={revision}").json == {"service": "one"}
    then = api.get(f"/api/v1/keys?revision={revision}").json
    assert then["revision"] == revision
    values = {item["key"]: item["value"] for item in then["items"]}
    assert values["routes/past"] == {"service": "one"}
    now = api.put("/api/v1/routes/past", {"service": "three"}).json["revision"]
    site.etcd.etcdctl("compact", str(now))
    assert "compacted" in api.get(f"/api/v1/routes?revision={revision}").detail


def test_a_certificate_is_written_with_its_key_and_read_without(site: Site, api: Api, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    first, second = authority.issue("first"), authority.issue("second")
    cert, key = first.certificate.read_text(), first.key.read_text()
    path = "/api/v1/certs/life"
    answers = [api.put(f"{path}?dry_run=1", {"cert": cert, "key": key})]
    assert answers[0].json["after"] == {"cert": cert}
    answers.append(api.put(path, {"cert": cert, "key": key}))
    assert answers[-1].status == 201
    assert json.loads(site.value("certs/life")) == {"cert": cert, "key": key}
    answers.append(api.get(path))
    assert (answers[-1].json, answers[-1].etag) == ({"cert": cert}, answers[1].etag)
    before = site.configuration()
    misfits: list[tuple[str, Any, str]] = [
        ("PUT", {"cert": cert, "key": second.key.read_text()}, "$.key"),
        ("PUT", {"cert": cert + key, "key": key}, "$.cert"),
        ("PUT", key.encode(), "byte 1"),
        ("PUT", {"cert": cert, key: key}, "$"),
        ("PATCH", {"cert": second.certificate.read_text()}, "$.key"),
        ("PATCH", {"key": None}, "$"),
    ]
    for method, body, place in misfits:
        answers.append(api.call(method, path, body))
        assert (answers[-1].status, answers[-1].json["place"]) == (422, place), (method, answers[-1].body)
    operations = [{"op": "put", "key": "certs/life", "value": {"cert": cert, "key": "no PEM"}}]
    assert api.post("/api/v1/transaction", {"operations": operations}).json["place"] == "$.key"
    assert site.configuration() == before
    renewed = {"cert": second.certificate.read_text(), "key": second.key.read_text()}
    answers.append(api.patch(path, renewed, if_match=answers[1].etag))
    assert answers[-1].status == 200
    assert json.loads(site.value("certs/life")) == renewed
    answers += [api.get("/api/v1/history?key=certs/life"), api.get("/api/v1/keys")]
    assert answers[-2].json["steps"][-1]["changes"][0]["after"] == {"cert": renewed["cert"]}
    answers.append(api.delete(path))
    assert (answers[-1].status, site.value("certs/life")) == (200, "")
    told = [answer.body.decode() for answer in answers] + site.weldr.lines
    for secret in (*key.splitlines()[1:-1], *renewed["key"].splitlines()[1:-1]):
        assert not any(secret in text for text in told)


def test_the_key_of_a_certificate_is_never_told_wherever_somebody_put_it(site: Site, api: Api) -> None:
    site.put("certs/secret", json.dumps({"cert": "TOP SECRET", "key": "TOP SECRET"}))
    site.put("certs/garbage", "TOP SECRET pasted by mistake")
    api.put("/api/v1/services/after", {})
    for path in ("keys", "certs", "certs/secret", "certs/garbage", "problems"):
        answer = api.get(f"/api/v1/{path}")
        assert answer.status == 200
        assert b"TOP SECRET" not in answer.body
    assert api.get("/api/v1/certs/secret").json == {"cert": ""}
    problems = {item["key"]: item["place"] for item in api.get("/api/v1/problems").json["items"]}
    assert problems[f"{site.prefix}certs/secret"] == "$.cert"


def test_a_wrong_value_in_etcd_is_listed_with_its_place(site: Site, api: Api) -> None:
    site.put("routes/wrong", '{"service": "x", "priority": "high"}')
    api.put("/api/v1/services/after2", {})
    found = [item for item in api.get("/api/v1/routes").json["items"] if item["key"] == "routes/wrong"]
    assert found[0]["problem"]["place"] == "$.priority"
    problems = api.get("/api/v1/problems").json
    assert any(item["key"].endswith("routes/wrong") for item in problems["items"])
    site.etcd.etcdctl("del", site.prefix + "routes/wrong")


def test_a_list_of_all_keys_can_be_bounded_and_says_what_it_leaves_out(site: Site, api: Api) -> None:
    for number in range(4):
        site.put(f"backends/bounded/b{number}", "127.0.0.1:1")
    revision = api.put("/api/v1/services/bounded", {}).json["revision"]
    every = api.get("/api/v1/keys").json
    assert every["left_out"] == {}
    for query in ("limit=2", f"limit=2&revision={revision}"):
        some = api.get(f"/api/v1/keys?{query}").json
        for name in COLLECTIONS:
            there, here = (
                [item["key"] for item in found["items"] if item["key"].split("/")[0] == name]
                for found in (every, some)
            )
            assert here == there[:2]
            assert some["left_out"].get(name, 0) == max(0, len(there) - 2)
    for limit in ("0", "-1", "x", "1" * 30):
        assert api.get(f"/api/v1/keys?limit={limit}").status == 400


def test_every_collection_can_be_listed(api: Api) -> None:
    for name, collection in COLLECTIONS.items():
        path = f"/api/v1/{name}"
        expected = 200 if collection.parts else 404
        assert api.get(path).status == expected, name
    assert api.get("/api/v1/instances").json["items"]


def test_the_instance_tells_what_befell_the_requests_of_a_service(site: Site, api: Api) -> None:
    with named_servers("befallen") as (server,):
        address = server.address
    api.put("/api/v1/backends/befallen/b1", address)
    api.put(
        "/api/v1/services/befallen",
        {"circuit_breaker": {"minimum_requests": 2, "open_s": 600}, "ejection": {"consecutive_failures": 0}},
    )
    api.put("/api/v1/routes/befallen", {"host": "befallen.example", "service": "befallen"})
    wait_until(lambda: site.weldr.get(host="befallen.example")[0] == 502, "it is in rotation")
    wait_until(lambda: site.weldr.get(host="befallen.example")[0] == 503, "the circuit is open")

    def incidents_when_all_is_told() -> dict[str, int] | None:
        for each in api.get("/api/v1/stats").json["services"]:
            incidents: dict[str, int] = each["incidents"]
            if incidents["service"] == "befallen" and incidents["circuit_refused"]:
                return incidents if each["open_circuit_workers"] == 1 else None
        return None

    incidents = wait_until(incidents_when_all_is_told, "it is told")
    assert incidents["connect_failures"] == 2
    assert incidents["circuit_openings"] == 1
    assert incidents["circuit_refused"] >= 1


def test_the_instance_tells_what_it_has_counted(site: Site, api: Api) -> None:
    with named_servers("counted") as (server,):
        api.put("/api/v1/backends/counted/b1", server.address)
        api.put("/api/v1/routes/counted", {"host": "counted.example", "service": "counted"})
        wait_until(lambda: site.weldr.get(host="counted.example") == (200, "counted"), "it is in rotation")
        for _ in range(4):
            site.weldr.get(host="counted.example")

        def ways() -> list[dict[str, object]]:
            stats = api.get("/api/v1/stats").json
            assert stats["instance"] == site.weldr.name
            assert [worker["state"] for worker in stats["workers"]] == ["serving"]
            return [way for way in stats["ways"] if way["backend"] == "b1" and way["requests"] == 5]

        (way,) = wait_until(ways, "all requests are counted")
        assert way["service"] == "counted"
        assert way["responses"] == {"2xx": 5}
        assert 0 < way["p50_s"] <= way["p99_s"] < 10
        sums = api.get("/stats").json
        assert sums["server"]["success"] >= 5
        assert sums["client"]["success"] >= sums["server"]["success"]
        (detail,) = [found for found in api.get("/stats/detail").json if found["id"] == "counted/b1"]
        address = f"{detail['ip']}:{detail['port']}"
        assert (address, detail["success"], detail["failed"]) == (server.address, 5, 0)
    api.delete("/api/v1/backends/counted/b1")
    api.delete("/api/v1/routes/counted")


@pytest.mark.parametrize(
    ("condition", "value", "status"),
    [
        ("if_match", '"1"', 412),
        ("if_match", '"1", "{now}"', 200),
        ("if_match", "*", 200),
        ("if_none_match", "*", 412),
        ("if_none_match", '"{now}"', 412),
        ("if_none_match", '"1"', 200),
    ],
)
def test_a_write_honours_its_conditions(api: Api, condition: str, value: str, status: int) -> None:
    path = "/api/v1/services/conditions"
    api.put(path, {})
    now = api.get(path).etag.strip('"')
    answer = api.put(path, {"limits": {"pending_requests": 1}}, **{condition: value.format(now=now)})
    assert answer.status == status
    if status == 412:
        assert now in answer.detail
        assert api.get(path).json == {}
    api.delete(path)


def test_a_condition_on_a_missing_key(api: Api) -> None:
    path = "/api/v1/services/missing"
    assert "does not exist" in api.put(path, {}, if_match="*").detail
    assert api.put(path, {}, if_none_match="*").status == 201
    assert api.put(path, {}, if_none_match="*").status == 412
    etag = api.get(path).etag
    assert api.get(path, if_none_match=etag).status == 304
    assert api.get(path, if_none_match=f"W/{etag}").status == 304
    assert api.delete(path, if_match='"1"').status == 412
    assert api.delete(path, if_match=etag).status == 200


def test_the_calls_of_the_earlier_weldr(site: Site, api: Api) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    added = api.call("POST", "/servers", b'{"url":"http://127.0.0.1:12345"}', form)
    assert added.status == 200
    assert site.value("backends/default/127.0.0.1:12345") == "http://127.0.0.1:12345"
    (server,) = api.get("/servers").json["servers"]
    assert server["url"] == "http://127.0.0.1:12345"
    assert api.delete(server["links"][0]["href"]).json["servers"] == []
    assert api.delete("/servers/127.0.0.1/12345").status == 404
    assert api.post("/servers", {"url": "no address"}).status == 422
