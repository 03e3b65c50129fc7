"""Bad input over HTTP: each with the right status and a sentence that helps, and nothing changed in etcd."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.support.admin import Api
from tests.support.site import Site

BAD: list[tuple[str, str, Any, dict[str, str], int, str]] = [
    ("PUT", "/api/v1/routes/bad", b"{", {}, 422, "routes/bad"),
    ("PUT", "/api/v1/routes/bad", b"", {}, 422, "empty"),
    ("PUT", "/api/v1/routes/bad", b"\xff\xfe", {}, 422, "UTF-8"),
    ("PUT", "/api/v1/routes/bad", b"[" * 100_000, {}, 422, "$"),
    ("PUT", "/api/v1/routes/bad", {"service": "x", "hsot": "y"}, {}, 422, "did you mean `host`"),
    ("PUT", "/api/v1/routes/bad", {"service": 5}, {}, 422, "$.service"),
    ("PUT", "/api/v1/routes/bad", [], {}, 422, "$"),
    ("PUT", "/api/v1/services/bad", {"timeouts": {"read_s": -1}}, {}, 422, "$.timeouts.read_s"),
    ("PUT", "/api/v1/backends/bad/b", "127.0.0.1", {}, 422, "no port"),
    ("PUT", "/api/v1/backends/bad/b", b"x" * 300_000, {}, 422, "300000 bytes"),
    ("PUT", "/api/v1/backends/bad/b", b"x" * 3_000_000, {}, 413, "too large"),
    ("PUT", "/api/v1/routes/bad", b"no gzip", {"Content-Encoding": "gzip"}, 400, "cannot be read"),
    ("PUT", "/api/v1/backends/bad/b?ttl=0", "127.0.0.1:1", {}, 400, "ttl"),
    ("PUT", "/api/v1/backends/bad/b?ttl=x", "127.0.0.1:1", {}, 400, "ttl"),
    ("PUT", "/api/v1/backends/bad/b?ttl=1&ttl=2", "127.0.0.1:1", {}, 400, "twice"),
    ("PUT", "/api/v1/routes/bad?ttl=5", {"service": "x"}, {}, 400, "'ttl' is not known"),
    ("PUT", "/api/v1/routes/bad?dry_run=maybe", {"service": "x"}, {}, 400, "dry_run"),
    ("PUT", "/api/v1/routes/bad", {"service": "x"}, {"If-Match": "5"}, 412, "no list of entity tags"),
    ("PUT", "/api/v1/routes/bad", {"service": "x"}, {"If-Match": 'W/"5"'}, 412, "If-Match"),
    ("PUT", "/api/v1/routes/bad", {"service": "x"}, {"If-Match": '"5"'}, 412, "does not exist"),
    ("PUT", "/api/v1/routes/b%2Fad", {"service": "x"}, {}, 400, "slash"),
    ("PUT", "/api/v1/routes", {"service": "x"}, {}, 405, "GET"),
    ("PUT", "/api/v1/routes/", {"service": "x"}, {}, 404, "nothing here"),
    ("PUT", "/api/v1/nonsense/x", {}, {}, 404, "nothing here"),
    ("PUT", "/api/v1/instances/me", {}, {}, 405, "GET"),
    ("DELETE", "/api/v1/instances/me", None, {}, 405, "GET"),
    ("PATCH", "/api/v1/routes/none", {}, {}, 404, "there is no routes/none"),
    ("PATCH", "/api/v1/routes/held", b"nope", {}, 400, "no JSON, at byte"),
    ("PATCH", "/api/v1/routes/held", [1], {}, 422, "object"),
    ("PATCH", "/api/v1/routes/held", {"service": None}, {}, 422, "service"),
    ("PATCH", "/api/v1/routes/held", {"priority": "x"}, {}, 422, "$.priority"),
    ("DELETE", "/api/v1/routes/none", None, {}, 404, "there is no routes/none"),
    ("GET", "/api/v1/routes?revision=-1", None, {}, 400, "revision"),
    ("GET", "/api/v1/routes?limit=5", None, {}, 400, "'limit' is not known: expected revision"),
    ("GET", "/api/v1/events?since=x", None, {}, 400, "since"),
    ("GET", "/api/v1/events", None, {"Last-Event-ID": "x"}, 400, "Last-Event-ID"),
    ("POST", "/api/v1/transaction", b"{", {}, 400, "no JSON"),
    ("POST", "/api/v1/transaction", {}, {}, 422, "operations"),
    ("POST", "/api/v1/transaction", {"operations": []}, {}, 422, "$.operations"),
    ("POST", "/api/v1/transaction", {"operations": [{"op": "put"}]}, {}, 422, "$.operations[0]"),
    ("POST", "/api/v1/transaction", {"operations": [{"op": "drop", "key": "x"}]}, {}, 422, "$.operations[0]"),
    (
        "POST",
        "/api/v1/transaction",
        {"operations": [{"op": "delete", "key": "rotes/x"}]},
        {},
        422,
        "no collection 'rotes'",
    ),
    (
        "POST",
        "/api/v1/transaction",
        {"operations": [{"op": "delete", "key": f"routes/r{number}"} for number in range(129)]},
        {},
        422,
        "$.operations",
    ),
    (
        "POST",
        "/api/v1/transaction",
        {
            "operations": [
                {"op": "put", "key": f"backends/big/b{n}", "value": {"url": "h:1", "zone": "z" * 200_000}}
                for n in range(6)
            ]
        },
        {},
        413,
        "at one instant",
    ),
    ("GET", "/api/v1/history?key=rotes/x", None, {}, 400, "no collection 'rotes'"),
    ("GET", "/api/v1/history?limit=0", None, {}, 400, "from 1 to 1000"),
    ("PUT", "/api/v1/instance_overrides/i", {"drain": 1}, {}, 422, "$.drain"),
    ("PUT", "/api/v1/instance_overrides/i", {"until": "2030-01-01T00:00:00"}, {}, 422, "no time zone"),
    ("PUT", "/api/v1/sticky_key", {"S3CRET": 1}, {}, 422, "no other"),
    ("POST", "/servers", b"", {}, 400, "no JSON"),
    ("POST", "/servers", {"url": 5}, {}, 422, "$.url"),
    ("TRACE", "/api/v1/routes", None, {}, 405, "GET"),
]


@pytest.mark.parametrize(("method", "path", "body", "headers", "status", "words"), BAD)
def test_bad_input_is_told_and_changes_nothing(
    site: Site, api: Api, method: str, path: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    api.put("/api/v1/routes/held", {"service": "x"})
    before = site.configuration()
    answer = api.call(method, path, body, headers)
    assert (answer.status, words in answer.detail) == (status, True), answer.body
    assert site.configuration() == before


def test_the_place_of_a_fault_is_a_member_of_the_problem(api: Api) -> None:
    problem = api.put("/api/v1/services/bad", {"limits": {"pending_requests": "many"}}).json
    assert problem["place"] == "$.limits.pending_requests"
    assert problem["key"] == "services/bad"


def test_a_request_that_is_no_http_gets_an_answer_or_an_end(site: Site) -> None:
    host, _, port = site.weldr.admin.rpartition(":")
    for data, status in (
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-Big: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /aaa HTTP/9.9\r\n\r\n", 400),
        (b"BREW /aaa HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ):
        with socket.create_connection((host, int(port)), 30) as connection:
            connection.sendall(data)
            head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.split()[1] == str(status).encode(), head
            assert b"Content-Type: application/problem+json" in head
            # What was sent is not told back.
            assert json.loads(body)["status"] == status
            assert b"aaa" not in body
    assert site.api.get("/healthz").status == 200
    assert not [record for record in site.weldr.records if record["level"] == "ERROR"]


@pytest.mark.parametrize(
    "target", ["services/a#b", "services/a?dry_run=1#b", "services/a%zz", "services/a%2", "services/%"]
)
def test_a_target_that_is_no_uri_writes_nothing(site: Site, target: str) -> None:
    host, _, port = site.weldr.admin.rpartition(":")
    before = site.configuration()
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(
            f"PUT /api/v1/{target} HTTP/1.1\r\nHost: {site.weldr.admin}\r\n"
            "Content-Length: 2\r\nConnection: close\r\n\r\n{}".encode()
        )
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"percent" in answer
    assert site.configuration() == before


def test_a_head_is_what_the_answer_would_have(site: Site) -> None:
    for path in ("/api/v1/keys", "/api/v1/settings", "/openapi.json", "/stats"):
        got, head = site.api.get(path), site.api.call("HEAD", path)
        assert (head.status, head.body) == (got.status, b"")
        for name in ("Content-Type", "ETag", "Content-Length"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)
