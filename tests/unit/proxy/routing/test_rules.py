"""What a route does beside sending a request to a service."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.unit.proxy.routing.asking import head, table
from weldr.model.routes import FieldEdits, FixedResponse, RateLimit, Redirect, Route, SplitBy
from weldr.proxy.request_head import RequestHead
from weldr.proxy.routing.conditions import Asked
from weldr.proxy.routing.field_edits import CompiledEdits
from weldr.proxy.routing.rules import RouteRules, Verdict, client_key
from weldr.proxy.routing.table import RouteTable
from weldr.proxy.routing.token_bucket import TokenBuckets


def verdict(route: Route, asked: RequestHead | None = None, client: str = "192.0.2.1") -> Verdict | None:
    return RouteRules(route).verdict(Asked(asked or head(), client), 0.0, 1.0)


@pytest.mark.parametrize(
    ("strip", "add", "target", "forwarded"),
    [
        ("/api", None, "/api/x?y", "/x?y"),
        ("/api", None, "/api", "/"),
        ("/api", None, "/api?y", "/?y"),
        ("/api/", None, "/api/x", "/x"),
        ("/api", None, "/apix", "/apix"),
        ("/api", None, "/x/api", "/x/api"),
        (None, "/v1", "/x?y", "/v1/x?y"),
        (None, "/v1/", "/", "/v1/"),
        ("/api", "/v1", "/api/x", "/v1/x"),
        ("/a b", None, "/a%20b/c", "/c"),
        ("/api", "/v1", "/api", "/v1"),
        ("/api", None, "/%61pi/x%2f", "/x%2F"),
        ("/api", None, "/api//evil.example/x", "/evil.example/x"),
        ("/api", None, "/x/../api/y", "/y"),
        (None, None, "/%61//b", "/%61//b"),
        (None, "/v1", "*", "*"),
    ],
)
def test_a_prefix_is_stripped_and_added_by_whole_segments(
    strip: str | None, add: str | None, target: str, forwarded: str
) -> None:
    rules = RouteRules(Route(service="s", strip_prefix=strip, add_prefix=add))
    assert rules.target(target.encode()) == forwarded.encode()


@pytest.mark.parametrize(
    ("redirect", "location"),
    [
        (Redirect(scheme="https"), "https://h.example/a?b"),
        (Redirect(host="new.example:8443"), "http://new.example:8443/a?b"),
        (Redirect(path="/moved"), "http://h.example:8080/moved"),
        (Redirect(scheme="https", host="new.example", path="/", status=308), "https://new.example/"),
    ],
)
def test_a_redirect_keeps_what_it_does_not_name(redirect: Redirect, location: str) -> None:
    found = verdict(Route(redirect=redirect), head("/a?b", "h.example:8080"))
    assert found is not None
    assert found.status == redirect.status
    assert found.field_line == f"Location: {location}".encode()


def test_a_fixed_response_is_given_as_it_stands() -> None:
    response = FixedResponse(status=410, body="gone\nfor good", content_type="text/html")
    assert verdict(Route(response=response)) == Verdict(410, "gone\nfor good", content_type="text/html")


@pytest.mark.parametrize(
    ("rules", "client", "status"),
    [
        ({"allow": ["192.0.2.0/24"]}, "192.0.2.9", None),
        ({"allow": ["192.0.2.0/24"]}, "198.51.100.1", 403),
        ({"allow": ["192.0.2.0/24"]}, "unknown", 403),
        ({"deny": ["192.0.2.0/24"]}, "192.0.2.9", 403),
        ({"deny": ["192.0.2.0/24"]}, "198.51.100.1", None),
        ({"allow": ["192.0.2.0/24"], "deny": ["192.0.2.9"]}, "192.0.2.9", 403),
        ({"deny": ["2001:db8::/32"]}, "2001:db8::1", 403),
    ],
)
def test_clients_are_allowed_and_denied_by_network(
    rules: dict[str, Any], client: str, status: int | None
) -> None:
    found = verdict(Route(service="s", **rules), client=client)
    assert (found.status if found else None) == status


def test_a_body_larger_than_the_route_takes_is_refused() -> None:
    route = Route(service="s", max_body_bytes=10)
    for length, status in ((10, None), (11, 413)):
        found = verdict(route, head("/", "h", f"Content-Length: {length}", method="POST"))
        assert (found.status if found else None) == status


def test_services_are_chosen_by_their_weights() -> None:
    rules = RouteRules(Route(services={"a": 3, "b": 1, "off": 0}))
    asked = Asked(head(), "")
    counts = Counter(rules.service(asked) for _ in range(8000))
    assert set(counts) == {"a", "b"}
    # Five standard deviations of a binomial distribution.
    assert abs(counts["a"] - 6000) < 5 * (8000 * 0.75 * 0.25) ** 0.5


@pytest.mark.parametrize(
    ("split", "field"),
    [
        (SplitBy(cookie="user"), "Cookie: a=1; user={}"),
        (SplitBy(cookie="user"), "Cookie: a=1\r\nCookie: user={}"),
        (SplitBy(header="X-User"), "x-user: {}"),
    ],
)
def test_a_client_stays_at_one_of_the_services(split: SplitBy, field: str) -> None:
    rules = RouteRules(Route(services={"a": 1, "b": 1}, split_by=split))
    chosen = {}
    for user in range(100):
        asked = Asked(head("/", "h", field.format(user)), "")
        chosen[user] = rules.service(asked)
        assert all(rules.service(asked) == chosen[user] for _ in range(5))
    assert set(chosen.values()) == {"a", "b"}
    assert len({rules.service(Asked(head(), "")) for _ in range(100)}) == 2


def test_few_clients_move_with_the_weights() -> None:
    users = [Asked(head("/", "h", f"X-User: {user}"), "") for user in range(2000)]
    split = SplitBy(header="X-User")
    first, second = (
        [RouteRules(Route(services=weights, split_by=split)).service(user) for user in users]
        for weights in ({"new": 10, "old": 90}, {"old": 80, "new": 20})
    )
    moved = [(one, two) for one, two in zip(first, second, strict=True) if one != two]
    assert set(moved) == {("old", "new")}
    assert 140 < len(moved) < 260


def test_a_client_without_the_cookie_gets_one_if_asked_for() -> None:
    rules = RouteRules(Route(services={"a": 1, "b": 1}, split_by=SplitBy(cookie="ab%", set_cookie=True)))
    chosen = set()
    for _ in range(40):
        service, line = rules.choose(Asked(head(), ""))
        assert line.startswith(b"\r\nSet-Cookie: ab%=")
        assert line.endswith(b"; Path=/; HttpOnly; SameSite=Lax")
        cookie = line.partition(b": ")[2].partition(b";")[0].decode()
        assert rules.choose(Asked(head("/", "h", f"Cookie: x=1; {cookie}; y=2"), "")) == (service, b"")
        chosen.add(service)
    assert chosen == {"a", "b"}


def test_fields_are_removed_then_set_then_added() -> None:
    edits = CompiledEdits(
        FieldEdits(remove=["X-Gone"], set={"X-Set": "new"}, add={"X-More": "2", "x-set": "é"})
    )
    lines = b"\r\nx-gone: 1\r\nX-SET: old\r\nX-More: 1"
    for _ in range(2):
        assert edits.apply(lines) == b"\r\nX-More: 1\r\nX-Set: new\r\nX-More: 2\r\nx-set: \xc3\xa9"
    assert edits.apply(b"") == b"\r\nX-Set: new\r\nX-More: 2\r\nx-set: \xc3\xa9"


def test_what_cgi_takes_for_a_field_that_goes_goes_from_requests_too() -> None:
    edits = FieldEdits(remove=["X-Auth-User", "a_b"], set={"X-Role": "guest"})
    lines = b"\r\nX_Auth-User: root\r\nx_auth_USER: root\r\nX_ROLE: admin\r\nX_Other: 1\r\nA-B: 2\r\nC: x_role:"
    rules = RouteRules(Route(service="s", request_headers=edits, response_headers=edits))
    assert rules.request_edits is not None
    assert rules.request_edits.apply(lines) == b"\r\nX_Other: 1\r\nA-B: 2\r\nC: x_role:\r\nX-Role: guest"
    # Of a response no CGI is a reader.
    assert rules.response_edits is not None
    assert rules.response_edits.apply(lines) == lines + b"\r\nX-Role: guest"


def test_a_bucket_grants_a_burst_and_then_its_rate() -> None:
    buckets = TokenBuckets(2.0, 3.0)
    assert [buckets.take(b"", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take(b"", 0.4) > 0
    assert buckets.take(b"", 0.5) == 0
    assert [buckets.take(b"", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_each_key_has_a_bucket_of_its_own_and_only_so_many_are_known() -> None:
    buckets = TokenBuckets(1.0, 1.0)
    assert buckets.take(b"first", 0.0) == 0
    assert buckets.take(b"other", 0.0) == 0
    assert buckets.take(b"first", 0.0) > 0
    for number in range(10_000):
        buckets.take(b"%d" % number, 0.0)
    assert len(buckets._buckets) == 10_000
    assert buckets.take(b"first", 0.0) == 0


def test_a_worker_grants_its_share() -> None:
    buckets = TokenBuckets(4.0, 4.0)
    assert [buckets.take(b"", 0.0, 0.5) for _ in range(3)] == [0, 0, 0.5]


@pytest.mark.parametrize(
    ("limit", "others"),
    [
        (RateLimit(requests_per_s=1), []),
        (RateLimit(requests_per_s=1, by="client"), ["client"]),
        (RateLimit(requests_per_s=1, by_header="X-Key"), ["header"]),
    ],
)
def test_requests_are_counted_by_route_client_or_header(limit: RateLimit, others: list[str]) -> None:
    rules = RouteRules(Route(service="s", rate_limit=limit))

    def status(client: str = "10.0.0.1", key: str = "k") -> int | None:
        found = rules.verdict(Asked(head("/", "h", f"X-Key: {key}"), client), 0.0, 1.0)
        return None if found is None else found.status

    assert status() is None
    assert status() == 429
    assert status(client="10.0.0.2") == (None if "client" in others else 429)
    assert status(key="l") == (None if "header" in others else 429)


def test_a_client_of_ipv6_is_its_network() -> None:
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff:1")
    assert client_key("2001:db8::1") != client_key("2001:db8:0:1::1")
    assert client_key("10.0.0.1") != client_key("10.0.0.2")
    assert client_key("::ffff:10.0.0.1") == client_key("10.0.0.1")


def test_buckets_outlive_a_change_that_leaves_their_limit_alone() -> None:
    limit = RateLimit(requests_per_s=1)
    before = table({"r": Route(service="s", rate_limit=limit)})

    def status(routes: RouteTable) -> int | None:
        [route] = routes.routes()
        assert route.rules is not None
        found = route.rules.verdict(Asked(head(), "10.0.0.1"), 0.0, 1.0)
        return None if found is None else found.status

    assert status(before) is None
    assert status(before.changed((), {"r": Route(service="t", rate_limit=limit)})) == 429
    other = RateLimit(requests_per_s=1, burst=2)
    assert status(before.changed((), {"r": Route(service="t", rate_limit=other)})) is None
    assert status(before.changed(["r"], {}).changed((), {"r": Route(service="s", rate_limit=limit)})) is None
