"""The numbers of the whole fleet at any instance, and what they cost etcd."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.admin import Api
from tests.support.instance import Instance, wait_until
from tests.support.servers import NamedServer
from tests.support.site import Site


@pytest.fixture(scope="module")
def pair(site: Site) -> Iterator[tuple[Site, Instance, NamedServer]]:
    """The site's instance, another one of the same fleet, and a backend of both."""
    with (
        NamedServer("b1") as server,
        Instance("--instance", "other", etcd=site.etcd.endpoint, prefix=site.prefix) as other,
    ):
        site.put("backends/counted/b1", server.address)
        site.put("routes/counted", '{"host": "counted.example", "service": "counted"}')
        other.wait_ready()
        wait_until(lambda: other.get(host="counted.example") == (200, "b1"), "the other serves")
        wait_until(lambda: site.weldr.get(host="counted.example") == (200, "b1"), "this one serves")
        yield site, other, server


def numbers(api: Api, query: str = "") -> Any:
    answer = api.get(f"/api/v1/numbers{query}")
    assert answer.status == 200, answer.body
    return answer.json


def told_by(api: Api, name: str) -> Any:
    found = numbers(api)["instances"].get(name)
    return found if found and found["requests_per_s"] is not None else None


def test_what_the_other_instance_counts_is_told_here(pair: tuple[Site, Instance, NamedServer]) -> None:
    site, other, server = pair
    wait_until(lambda: told_by(site.api, "other"), "the other tells its numbers")

    def seen() -> Any:
        other.get(host="counted.example")
        found = numbers(site.api)
        backends = found["backends"].get("counted", {})
        return found["instances"]["other"]["requests_per_s"] > 0 and "b1" in backends and found

    found = wait_until(seen, "its requests are counted here")
    assert found["services"]["counted"][0] > 0
    assert found["services"]["counted"][3] > 0
    server.hold()
    with contextlib.ExitStack() as stack:
        for address in (other.address, site.weldr.address):
            host, _, port = address.rpartition(":")
            waiting = stack.enter_context(socket.create_connection((host, int(port)), 30))
            waiting.sendall(b"GET / HTTP/1.1\r\nHost: counted.example\r\n\r\n")
        both = "what is in flight at both is added up"
        wait_until(lambda: numbers(site.api)["backends"]["counted"]["b1"][2] == 2, both)
        server.release()
        wait_until(lambda: numbers(site.api)["backends"]["counted"]["b1"][2] == 0, "nothing is in flight")


def test_looking_writes_one_key_and_nothing_while_it_lasts(pair: tuple[Site, Instance, NamedServer]) -> None:
    site, other, _ = pair
    wait_until(lambda: told_by(site.api, "other"), "the other tells its numbers")
    key = f"viewers/{site.weldr.name}"
    assert json.loads(site.value(key)).keys() == {"address", "key"}
    # The key in it is for instances alone.
    assert "key" not in site.api.get(f"/api/v1/{key}").json
    before = site.etcd.handled("Put") + site.etcd.handled("DeleteRange") + site.etcd.handled("Txn")
    slots = {numbers(site.api)["last_slot"]}

    def some_slots_later() -> bool:
        slots.add(numbers(site.api)["last_slot"])
        other.get(host="counted.example")
        return len(slots) >= 4

    wait_until(some_slots_later, "numbers go on")
    after = site.etcd.handled("Put") + site.etcd.handled("DeleteRange") + site.etcd.handled("Txn")
    assert after == before
    # Nobody has looked for a while.
    wait_until(lambda: site.value(key) == "", "the key is gone when nobody looks")
    assert told_by(site.api, "other") is None
    wait_until(lambda: told_by(site.api, "other"), "and everything is there again when somebody does")


def test_the_past_is_told_once_and_then_only_what_is_new(pair: tuple[Site, Instance, NamedServer]) -> None:
    site, _, _ = pair
    wait_until(lambda: told_by(site.api, "other"), "the other tells its numbers")
    whole = wait_until(lambda: (found := numbers(site.api))["slots"] and found, "there is a past")
    query = f"?epoch={whole['epoch']}&since_slot={whole['last_slot']}"
    later = wait_until(lambda: (found := numbers(site.api, query))["slots"] and found, "there is more")
    if later["epoch"] == whole["epoch"]:
        assert all(slot["number"] > whole["last_slot"] for slot in later["slots"])
    again = numbers(site.api, f"?epoch={whole['epoch'] + 1000}&since_slot={whole['last_slot']}")
    assert len(again["slots"]) >= len(whole["slots"])


def test_who_has_not_the_key_is_not_heard(pair: tuple[Site, Instance, NamedServer]) -> None:
    site, _, _ = pair
    wait_until(lambda: told_by(site.api, "other"), "the other tells its numbers")
    address = json.loads(site.value(f"viewers/{site.weldr.name}"))["address"]
    host, _, port = address.rpartition(":")
    frame = bytes(32) + b"\x91\xa3bad"
    for sent in (b"GET / HTTP/1.1\r\n\r\n", len(frame).to_bytes(4, "big") + frame, b"\xff" * 100):
        with socket.create_connection((host, int(port)), 30) as stranger:
            assert len(stranger.recv(16)) == 16
            stranger.sendall(sent)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(1) == b""
    assert "bad" not in numbers(site.api)["instances"]
    site.weldr.wait_logged("what came as an instance's numbers is none")
    assert len(site.weldr.logged("what came as an instance's numbers is none")) == 1, "they cannot fill the log"


def test_a_single_instance_opens_no_port_and_writes_no_key(site: Site) -> None:
    prefix = f"{site.prefix}alone/"
    with Instance(etcd=site.etcd.endpoint, prefix=prefix) as alone:
        alone.wait_ready()
        api = Api(alone.admin)
        wait_until(lambda: told_by(api, alone.name), "it tells its own numbers")
        assert site.etcd.etcdctl("get", "--prefix", f"{prefix}viewers/") == ""


def test_the_time_left_of_leases_is_told_by_service(site: Site) -> None:
    lease = site.etcd.etcdctl("lease", "grant", "50").split()[1]
    site.put("backends/timed/b1", "127.0.0.1:9001", f"--lease={lease}")
    site.put("backends/timed/b3", "127.0.0.1:9003", f"--lease={lease}")
    site.put("backends/timed/b2", "127.0.0.1:9002")
    wait_until(lambda: site.api.get("/api/v1/backends/timed/b2").status == 200, "it is known")
    before = site.etcd.handled("LeaseTimeToLive")
    found = site.api.get("/api/v1/leases/timed").json
    assert found["backends"].keys() == {"b1", "b3"}
    assert found["backends"]["b1"]["ttl_s"] == 50
    assert 0 <= found["backends"]["b1"]["left_s"] <= 50
    assert site.etcd.handled("LeaseTimeToLive") == before + 1
    assert site.api.get("/api/v1/leases?service=timed").json["backends"].keys() == {"b1", "b3"}
    for query in ("", "?service=", "?service=a/b"):
        assert site.api.get("/api/v1/leases" + query).status == 400
    assert site.api.get("/api/v1/leases/nobody").json == {"service": "nobody", "backends": {}}


def test_explain_says_what_the_data_plane_would_do(site: Site) -> None:
    site.put("routes/explained", '{"host": "explained.example", "path": "/a", "service": "explained"}')
    site.put("routes/fixed", '{"host": "explained.example", "path": "/f", "response": {"status": 418}}')
    with NamedServer("b1") as server:
        site.put("backends/explained/b1", server.address)
        wait_until(lambda: site.weldr.get("/a", host="explained.example") == (200, "b1"), "it serves")
        found = site.api.post("/api/v1/explain", {"url": "http://explained.example/a/x"}).json
        assert (found["service"], found["backends"]) == ("explained", ["b1"])
        assert found["routes"][0] == {
            "name": "explained",
            "wins": True,
            "reason": "it matches, and none that matches is before it",
        }
        assert set(found["order"]) >= {"explained", "fixed"}
        fixed = site.api.post("/api/v1/explain", {"url": "explained.example/f", "headers": ["X-A: b"]}).json
        assert fixed["status"] == 418
        assert site.weldr.get("/f", host="explained.example")[0] == 418


@pytest.mark.parametrize(
    ("question", "status", "word"),
    [
        (b"{", 400, "no JSON"),
        ({}, 422, "url"),
        ({"url": "ftp://x/"}, 422, "no URL"),
        ({"url": "http://a b/"}, 422, "no URL"),
        ({"url": "http://x/", "method": "NO SUCH"}, 422, "method"),
        ({"url": "http://x/", "headers": ["A: b\r\nHost: c"]}, 422, "Name: value"),
        ({"url": "http://x/", "headers": ["no colon"]}, 422, "Name: value"),
        ({"url": "http://x/", "client": "nobody"}, 422, "no IP address"),
        ({"url": "http://x/", "more": 1}, 422, "more"),
    ],
)
def test_a_question_that_is_none_is_told_why(site: Site, question: Any, status: int, word: str) -> None:
    answer = site.api.post("/api/v1/explain", question)
    assert answer.status == status
    assert word in answer.detail
