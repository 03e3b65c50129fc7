"""Backends that cannot reach etcd and register by HTTP: alive as long as they say so, at whichever instance."""

from __future__ import annotations

import weldr
from tests.support.admin import Api, EventStream
from tests.support.instance import Instance, wait_until
from tests.support.servers import named_servers
from tests.support.site import Site

PATH = "/api/v1/backends/http/b1"


def test_a_registration_lives_as_long_as_it_is_repeated(site: Site, api: Api) -> None:
    with named_servers("one") as (one,), EventStream(api.address) as stream:
        changes = stream.changes("backends/http/b1")
        api.put("/api/v1/routes/http", {"host": "http.example", "service": "http"})
        first = api.put(PATH + "?ttl=20", one.address)
        assert (first.status, first.json["ttl_s"]) == (201, 20)
        lease = int(next(changes)[1]["after"]["lease"], 16)
        wait_until(lambda: site.weldr.get(host="http.example") == (200, "one"), "it is in rotation")
        wait_until(lambda: site.etcd.left_s(lease) < 19, "some of its time has passed")
        beat = api.put(PATH + "?ttl=20", one.address)
        assert (beat.status, beat.json["outcomes"][0]["action"]) == (200, "keep")
        wait_until(lambda: site.etcd.left_s(lease) >= 19, "it has all its time again")
        assert api.get(PATH).etag == first.etag, "a heartbeat writes nothing"
        api.delete(PATH)
        assert next(changes)[1]["action"] == "delete"
        api.put(PATH + "?ttl=2", one.address)
        assert next(changes)[1]["action"] == "create"
        _, change = next(changes)
        assert change["action"] == "delete"
        assert api.get(PATH).status == 404


def test_a_heartbeat_with_another_value_changes_it(site: Site, api: Api) -> None:
    api.put(PATH + "?ttl=20", {"url": "127.0.0.1:1"})
    changed = api.put(PATH + "?ttl=30", {"url": "127.0.0.1:1", "weight": 7})
    assert changed.json["ttl_s"] == 30
    (after,) = api.get("/api/v1/backends/http").json["items"]
    assert after["value"]["weight"] == 7
    assert site.etcd.left_s(int(after["lease"], 16)) > 20
    api.delete(PATH)


def test_a_registration_in_the_place_of_a_living_one_does_not_outlive_its_own_heartbeats(
    site: Site, api: Api
) -> None:
    def value() -> object:
        items = api.get("/api/v1/backends/http").json["items"]
        return items[0]["value"] if items else None

    with weldr.register("http", "127.0.0.1:1", id="b1", etcd=site.etcd.endpoint, prefix=site.prefix):
        own = wait_until(value, "it is known here")
        api.put(PATH + "?ttl=2", "127.0.0.1:2")
        assert value() == "127.0.0.1:2"
        wait_until(lambda: value() == own, "the key is its first owner's again", 60)


def test_a_key_without_a_lease_becomes_a_registration(site: Site, api: Api) -> None:
    site.put("backends/http/b1", "127.0.0.1:1")
    api.put(PATH + "?ttl=20", "127.0.0.1:1")
    (item,) = api.get("/api/v1/backends/http").json["items"]
    assert item["lease"]
    assert api.put(PATH + "?ttl=20", "127.0.0.1:1", if_none_match="*").status == 412
    api.delete(PATH)


def test_when_its_instance_dies_another_one_takes_the_heartbeats(site: Site, api: Api) -> None:
    with Instance("--instance", "dying", etcd=site.etcd.endpoint, prefix=site.prefix) as other:
        other.wait_ready()
        registered = Api(other.admin).put(PATH + "?ttl=20", "127.0.0.1:1")
        other.process.kill()
        other.process.wait()
        (item,) = wait_until(lambda: api.get("/api/v1/backends/http").json["items"], "it is known here, too")
        lease = int(item["lease"], 16)
        wait_until(lambda: site.etcd.left_s(lease) < 19, "some of its time has passed")
        assert api.put(PATH + "?ttl=20", "127.0.0.1:1").json["outcomes"][0]["action"] == "keep"
        wait_until(lambda: site.etcd.left_s(lease) >= 19, "it has all its time again")
        assert api.get(PATH).etag == registered.etag
    api.delete(PATH)
