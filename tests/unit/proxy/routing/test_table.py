"""Which route wins."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.proxy.routing.asking import found, head, table
from weldr.model.route_rules import checked_route
from weldr.model.routes import Match, Route
from weldr.proxy.request_fields import RequestRefusedError
from weldr.proxy.routing.paths import normal_path, route_path
from weldr.proxy.routing.table import RouteTable


def route(name: str, host: str | None = None, path: str | None = None, priority: int = 0) -> Route:
    return Route(service=name, host=host, path=path, priority=priority)


def one(*routes: Route) -> RouteTable:
    """A table in which each route is named like its service."""
    return table({each.service or "": checked_route(each) for each in routes})


@pytest.mark.parametrize(
    ("path", "target", "matches"),
    [
        ("/cart", "/cart", True),
        ("/cart", "/cart/", True),
        ("/cart", "/cart/x", True),
        ("/cart", "/cart?x", True),
        ("/cart", "/cart/x?y=/z", True),
        ("/cart", "/cartoon", False),
        ("/cart", "/car", False),
        ("/cart", "/", False),
        ("/cart", "/x/cart", False),
        ("/cart", "/x?/cart", False),
        ("/cart", "/CART", False),
        ("/cart", "//cart", True),
        ("/cart", "/c%61rt/x", True),
        ("/cart", "/x/../cart", True),
        ("/cart", "/x/%2e%2E/cart/y", True),
        ("/cart", "/cart/../x", False),
        ("/cart", "/../cart", True),
        ("/cart", "/./cart", True),
        ("/cart", "/cart/.", True),
        ("/c%61rt", "/cart", True),
        ("/a/b", "/a%2Fb", False),
        ("/a%2fb", "/a%2Fb", True),
        ("/cart", "/cart%3Fx", False),
        ("/cart/", "/cart", True),
        ("/cart/", "/cart/x", True),
        ("/cart/", "/cartoon", False),
        ("/", "/", True),
        ("/", "/anything", True),
        ("/", "*", True),
        ("/cart", "*", False),
        ("/a/b", "/a/b/c", True),
        ("/a/b", "/a/c", False),
        ("/a b/é", "/a%20b/%C3%A9", True),
        ("/a%20b", "/a%20b", True),
    ],
)
def test_a_path_is_a_prefix_by_whole_segments(path: str, target: str, matches: bool) -> None:
    method = "OPTIONS" if target == "*" else "GET"
    name = found(one(route("s", path=path)), head(target, method=method))
    assert name == ("s" if matches else None)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.example", False),
        ("a.example", "x.a.example", False),
        ("a.example.", "a.example", True),
        ("A.Example", "a.example", True),
        ("a.example", "A.EXAMPLE:8080", True),
        ("a.example", "a.example.", True),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("*.example", "a.example", True),
        ("*.example", "a.b.example", True),
        ("*.example", "example", False),
        ("*.example", "badexample", False),
        ("*.example", "a.example.com", False),
        ("[::1]", "[::1]", True),
        ("10.0.0.1", "10.0.0.1", True),
        (None, "anything", True),
    ],
)
def test_a_host_is_a_name_or_all_names_below_one(pattern: str | None, host: str, matches: bool) -> None:
    name = found(one(route("s", host=pattern)), head("/", host))
    assert name == ("s" if matches else None)


# Of each pair the first wins for the host a.b.example and the path /x/y.
ORDER: list[tuple[str, Route, Route]] = [
    ("priority before host", route("w", None, None, 1), route("l", "a.b.example", "/x/y")),
    ("priority before path", route("w", "a.b.example", "/", 2), route("l", "a.b.example", "/x/y", 1)),
    ("negative priority loses", route("w"), route("l", "a.b.example", "/x/y", -1)),
    ("an exact host before a wildcard", route("w", "a.b.example"), route("l", "*.b.example", "/x/y")),
    ("a longer wildcard before a shorter", route("w", "*.b.example"), route("l", "*.example", "/x/y")),
    ("a wildcard before no host", route("w", "*.example"), route("l", None, "/x/y")),
    ("a longer path before a shorter", route("w", None, "/x/y"), route("l", None, "/x")),
    ("a path before none", route("w", None, "/x"), route("l", None, None)),
    ("the root before no path", route("z", None, "/"), route("l", None, None)),
    ("an exact path before a prefix", Route(service="w", path_exact="/x/y"), route("l", None, "/x/y")),
    ("a prefix before a glob", route("w", None, "/"), Route(service="l", path_glob="/x/*")),
    ("a glob before an expression", Route(service="w", path_glob="/**"), Route(service="l", path_regex="/x/y")),
    ("an expression before no path", Route(service="w", path_regex=".*"), route("l")),
    ("a priority before all that", Route(service="w", priority=1), Route(service="l", path_exact="/x/y")),
    (
        "more conditions before fewer",
        Route(service="w", path="/x", methods=["GET"], headers={"X": Match(present=False)}),
        Route(service="l", path="/x", methods=["GET"]),
    ),
    (
        "of expressions the one with more conditions",
        Route(service="w", path_regex="/x.*", methods=["GET"]),
        Route(service="a", path_regex="/.*y"),
    ),
    (
        "one whose conditions hold",
        route("w"),
        Route(service="l", path="/x/y", priority=5, methods=["POST"]),
    ),
    ("then the name that sorts first", route("a", None, "/x"), route("b", None, "/x")),
]


@pytest.mark.parametrize(("why", "winner", "loser"), ORDER, ids=[case[0] for case in ORDER])
def test_of_two_routes_that_match_the_right_one_wins(why: str, winner: Route, loser: Route) -> None:
    for routes in ((winner, loser), (loser, winner)):
        assert found(one(*routes), head("/x/y", "a.b.example")) == winner.service


def test_no_route_takes_what_none_matches() -> None:
    assert found(RouteTable(), head()) is None
    assert found(one(route("s", host="other")), head()) is None


hosts = st.sampled_from([None, "a.b.c", "b.c", "*.b.c", "*.c", "x"])
paths = st.sampled_from([None, "/", "/a", "/a/b", "/a/b/c", "/ab"])
all_routes = st.dictionaries(
    st.sampled_from("pqrstuvw"),
    st.builds(Route, service=st.sampled_from("123"), host=hosts, path=paths, priority=st.integers(0, 2)),
    max_size=8,
)


def expected(routes: dict[str, Route], host: str, path: str) -> str | None:
    """The name, by the design's order written down naively."""

    def takes(each: Route) -> bool:
        if each.host is not None and each.host.startswith("*."):
            matches = host.endswith(each.host[1:])
        else:
            matches = each.host in (None, host)
        prefix = (each.path or "").rstrip("/")
        return matches and (path == prefix or path.startswith(f"{prefix}/"))

    def rank(name: str) -> tuple[object, ...]:
        each = routes[name]
        exact = each.host is not None and not each.host.startswith("*.")
        return -each.priority, not exact, -len(each.host or ""), -len(each.path or ""), name

    names = sorted((name for name, each in routes.items() if takes(each)), key=rank)
    return names[0] if names else None


requests = st.tuples(
    st.sampled_from(["a.b.c", "b.c", "x", "y"]), st.sampled_from(["/", "/a", "/a/b/c/d", "/ab/c"])
)


@given(all_routes, all_routes, requests)
def test_lookup_and_change_agree_with_the_order_of_the_design(
    before: dict[str, Route], after: dict[str, Route], request: tuple[str, str]
) -> None:
    host, path = request
    old = table(before)
    new = old.changed(before.keys() - after.keys(), after)
    assert found(old, head(path, host)) == expected(before, host, path)
    assert found(new, head(path, host)) == expected(after, host, path)


def test_a_change_compiles_the_changed_route_alone() -> None:
    old = table({"a": route("a", "x", "/a"), "b": route("b", "x", "/b")})
    kept = old.find(head("/b", "x"), "")
    new = old.changed((), {"a": route("other", "x", "/a")})
    assert new.find(head("/b", "x"), "") is kept
    assert new.find(head("/a", "x"), "") is not old.find(head("/a", "x"), "")


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a/b/b/c", False),
        ("/a/*/c", "/a//c", False),
        ("/a/**/c", "/a/b/b/c", True),
        ("/a/?", "/a/b", True),
        ("/a/?", "/a/", False),
        ("/a/?", "/a//", False),
        ("/*.jpg", "/x.jpg", True),
        ("/*.jpg", "/xzjpg", False),
        ("/*.jpg", "/x.jpg/y", False),
        ("/*.jpg", "/x.jpg?q=/", True),
        ("/ü*", "/%C3%BCber", True),
        ("/a+(b)", "/a+(b)", True),
    ],
)
def test_a_glob_matches_the_whole_path(glob: str, path: str, matches: bool) -> None:
    name = found(one(Route(service="s", path_glob=glob)), head(path))
    assert name == ("s" if matches else None)


@pytest.mark.parametrize(
    ("regex", "path", "matches"),
    [
        ("/v[0-9]+/.*", "/v12/x", True),
        ("/v[0-9]+", "/v12/x", False),
        ("(?i)/A", "/a", True),
        ("(a*)*b", "/" + "a" * 5000, False),
        ("/(a|aa)+", "/" + "a" * 5000, True),
    ],
)
def test_an_expression_matches_the_whole_path_in_linear_time(regex: str, path: str, matches: bool) -> None:
    name = found(one(Route(service="s", path_regex=regex)), head(path))
    assert name == ("s" if matches else None)


FIELDS = ("X-Version: 2", "Cookie: a=1", "X-Two: a", "X-Two: b")


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({"methods": ["POST", "GET"]}, True),
        ({"methods": ["POST"]}, False),
        ({"methods": ["get"]}, False),
        ({"headers": {"x-version": "2"}}, True),
        ({"headers": {"x-version": "20"}}, False),
        ({"headers": {"x-version": Match(regex="[0-9]")}}, True),
        ({"headers": {"x-version": Match(regex="[3-9]")}}, False),
        ({"headers": {"x-version": Match(present=True)}}, True),
        ({"headers": {"x-version": Match(present=False)}}, False),
        ({"headers": {"x-other": Match(present=False)}}, True),
        ({"headers": {"x-two": "a, b"}}, True),
        ({"query": {"q": "ü&"}}, True),
        ({"query": {"q": "1"}}, False),
        ({"query": {"empty": ""}}, True),
        ({"query": {"none": Match(present=True)}}, False),
        ({"clients": ["192.0.2.0/24"]}, True),
        ({"clients": ["198.51.100.0/24", "2001:db8::/32"]}, False),
        ({"methods": ["GET"], "headers": {"x-version": "2"}, "query": {"none": "1"}}, False),
    ],
)
def test_a_route_takes_a_request_only_if_all_its_conditions_hold(
    conditions: dict[str, object], matches: bool
) -> None:
    routes = one(Route(service="s", **conditions))  # type: ignore[arg-type]
    assert found(routes, head("/?q=%C3%BC%26&empty=", "h", *FIELDS)) == ("s" if matches else None)


def test_a_change_compiles_no_other_pattern() -> None:
    routes = {name: Route(service=name, path_regex=f"/{name}/[0-9]+") for name in "abc"}
    before = table(routes)
    after = before.changed((), {"b": Route(service="n", path_regex="/n/.*")})
    kept = {route.name: route for route in before.routes()}
    assert [kept[route.name] is route for route in after.routes() if route.name != "b"] == [True, True]
    assert found(after, head("/a/1")) == "a"
    assert found(after, head("/b/1")) is None
    assert found(after, head("/n/1")) == "b"
    assert found(before, head("/b/1")) == "b"


def test_of_patterns_with_different_beginnings_the_order_decides() -> None:
    routes = {
        "deep": Route(service="s", path_regex="/a/b/.*"),
        "more": Route(service="s", path_regex="/a/.*", methods=["GET"]),
        "first": Route(service="s", path_regex=".*", priority=1, methods=["PUT"]),
    }
    routing = table(routes)
    assert found(routing, head("/a/b/c")) == "more"
    assert found(routing, head("/a/b/c", method="POST")) == "deep"
    assert found(routing, head("/a/b/c", method="PUT")) == "first"


@pytest.mark.parametrize(
    ("regex", "path"),
    [
        ("/ab*/x", "/a/x"),
        ("/a/b?", "/a/"),
        ("/a/b?c", "/a/c"),
        ("/a/(b|c)/d", "/a/c/d"),
        ("/a/x|/b/y", "/b/y"),
        ("(?i)/a/b", "/A/B"),
        ("/xa{0,1}/b", "/x/b"),
        ("/a.b/c", "/axb/c"),
        ("/a\\.b/c", "/a.b/c"),
        ("^/a/b$", "/a/b"),
        ("/a/b+", "/a/bb"),
        ("/(?:a/)*b", "/b"),
    ],
)
def test_what_an_expression_begins_with_excludes_nothing_that_it_matches(regex: str, path: str) -> None:
    assert re.fullmatch(regex, path)
    assert found(one(Route(service="s", path_regex=regex)), head(path)) == "s"


def _without_dots(target: bytes) -> bytes:
    """By RFC 3986, section 5.2.4, where empty segments are segments like others."""
    left = target.partition(b"?")[0].replace(b"%2e", b".")
    gone = b""
    while left:
        if left.startswith(b"/./"):
            left = left[2:]
        elif left == b"/.":
            left = b"/"
        elif left.startswith(b"/../"):
            left, gone = left[3:], gone[: gone.rfind(b"/")] if gone else gone
        elif left == b"/..":
            left, gone = b"/", gone[: gone.rfind(b"/")] if gone else gone
        else:
            end = left.find(b"/", 1)
            end = len(left) if end < 0 else end
            gone, left = gone + left[:end], left[end:]
    return gone


@given(st.lists(st.sampled_from(["/", ".", "..", "a", "%2e", "%2F", "%41", "?", "//"]), max_size=12))
def test_a_normal_path_is_normal_and_stays_within_the_root(parts: list[str]) -> None:
    target = ("/" + "".join(parts)).encode()
    try:
        path = normal_path(target)
    except RequestRefusedError:
        path = route_path(target.partition(b"?")[0])
        assert b"//" in target.replace(b"%2e", b".").replace(b"/./", b"//")
        assert path != normal_path(_without_dots(target))
    else:
        assert path == normal_path(_without_dots(target))
    assert path.startswith(b"/")
    assert normal_path(path) == path
    assert b"//" not in path
    assert not {b".", b".."} & set(path.split(b"/"))
