"""`weldr explain` against what a worker does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.cli.conftest import Shell
from tests.support.admin import Api
from tests.support.instance import wait_until
from tests.support.servers import named_servers
from weldr.model.catalog import Catalog
from weldr.model.events import KeyValue
from weldr.model.explaining import Explanation, Question
from weldr.model.keys import KeySpace
from weldr.model.traffic import Traffic, difference
from weldr.proxy.explain import explanation

SERVICES = ("default", "shop", "cart", "regex")
KEYS = {
    "routes/shop": {"host": "shop.example", "service": "shop"},
    "routes/cart": {"host": "shop.example", "path": "/cart", "service": "cart"},
    "routes/exact": {"path_exact": "/cart/exact", "service": "shop"},
    "routes/wild": {"host": "*.shop.example", "path_glob": "/*/x", "service": "cart"},
    "routes/regex": {"path_regex": "/r[0-9]+", "service": "regex", "priority": 1},
    "routes/beta": {"headers": {"X-Beta": "yes"}, "service": "cart"},
    "routes/posts": {"methods": ["POST"], "service": "regex", "path": "/cart"},
    "routes/moved": {"path": "/old", "redirect": {"host": "new.example"}},
    "routes/fixed": {"path": "/fixed", "response": {"status": 418, "body": "teapot"}},
    "routes/denied": {"path": "/denied", "service": "shop", "deny": ["127.0.0.0/8"]},
    "routes/empty": {"path": "/empty", "service": "nobody"},
    "routes/last": {"host": "last.example", "service": "shop"},
}


@dataclass(frozen=True)
class Routed:
    """A worker that has the routes, and the same routes to be explained."""

    shell: Shell
    traffic: Traffic


@pytest.fixture(scope="module")
def routed(shell: Shell) -> Iterator[Routed]:
    with named_servers(*SERVICES) as servers:
        values = {key: json.dumps(value) for key, value in KEYS.items()}
        values |= {f"backends/{name}/b": server.address for name, server in zip(SERVICES, servers, strict=True)}
        for key, value in values.items():
            shell.put(key, value)
        wait_until(lambda: shell.weldr.get(host="last.example") == (200, "shop"), "the routes are in force")
        keys = KeySpace(shell.prefix)
        pairs = [KeyValue((shell.prefix + key).encode(), value.encode(), 1, 1) for key, value in values.items()]
        yield Routed(shell, Catalog(keys).resync(1, pairs).traffic)


def explained(traffic: Traffic, request: bytes) -> Explanation:
    return explanation(Question(difference(Traffic(), traffic), [], request, "127.0.0.1"))


def answered(address: str, request: bytes) -> tuple[int, str]:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


hosts = st.sampled_from(
    ["shop.example", "SHOP.example:8080", "a.shop.example", "other", "", "sh op", "last.example"]
)
parts = st.sampled_from(
    ["cart", "exact", "x", "r7", "old", "fixed", "denied", "empty", "%63art", "..", "", "a?b=/cart"]
)
paths = st.lists(parts, max_size=3).map(lambda found: "/" + "/".join(found))
methods = st.sampled_from(["GET", "POST", "DELETE", "BREW", "TRACE"])
fields = st.lists(st.sampled_from(["X-Beta: yes", "X-Beta: no", "x-beta:yes", "Bad Field: x"]), max_size=2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(methods, paths, hosts, fields)
def test_what_is_explained_is_what_a_worker_does(
    routed: Routed, method: str, path: str, host: str, lines: list[str]
) -> None:
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *lines, "", ""]
    request = "\r\n".join(head).encode()
    found = explained(routed.traffic, request)
    status, body = answered(routed.shell.weldr.address, request)
    if found.status is not None:
        assert status == found.status, (request, found)
    elif found.backends:
        assert (status, body) == (200, found.service), (request, found)
    else:
        assert status == 503, (request, found)


@pytest.mark.parametrize("via", ["etcd", "admin"])
def test_the_command_says_why_and_why_not(routed: Routed, via: str) -> None:
    shell = routed.shell
    shell.put("backends/cart/c", '{"url": "127.0.0.1:1", "drain": true}')
    output = shell.good("explain", "http://shop.example/cart/x", via=via)
    lines = output.splitlines()
    assert lines[0].startswith("route cart: taken")
    assert "route shop: not taken, cart names the path more exactly" in lines
    assert any(line.startswith("route fixed: not taken, the path is not /fixed") for line in lines)
    assert "service cart" in lines
    rows = [line.split("\t") for line in lines if "\t" in line]
    assert [(row[0], row[1], row[4]) for row in rows] == [("1", "b", ""), ("-", "c", "draining")]
    shell.etcd.etcdctl("del", shell.prefix + "backends/cart/c")


def test_programs_get_it_as_json_and_by_the_status(routed: Routed) -> None:
    done = routed.shell.run("explain", "other.example/empty/x", "-H", "X-Beta: yes", "-X", "POST", "-o", "json")
    found = json.loads(done.output)
    assert (done.status, found["service"]) == (1, "nobody")
    none = routed.shell.run("explain", "other.example/empty")
    assert (none.status, "the service has no backend" in none.output) == (1, True)
    refused = routed.shell.run("explain", "other.example/x", "-X", "TRACE")
    assert (refused.status, "status 405" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"url": "ftp://x"}, "is no URL"),
        ({"url": "x/a b"}, "without spaces"),
        ({"url": "http://[::1/"}, "is no URL"),
        ({"url": "x", "client": "nobody"}, "is no IP address"),
        ({"url": "x", "headers": ["X-Beta"]}, "is no field"),
        ({"url": "x", "headers": ["A: b\r\nC: d"]}, "is no field"),
    ],
)
def test_a_question_that_makes_no_request_is_refused_alike_by_the_command_and_by_the_api(
    routed: Routed, question: dict[str, Any], words: str
) -> None:
    answer = Api(routed.shell.weldr.admin).post("/api/v1/explain", question)
    assert (answer.status, words in answer.detail) == (422, True), answer
    fields = [part for field in question.get("headers", []) for part in ("-H", field)]
    client = ["--client", question["client"]] if "client" in question else []
    done = routed.shell.run("explain", question["url"], *fields, *client)
    assert (done.status, words in done.error, done.error.count("\n")) == (2, True, 1), done
