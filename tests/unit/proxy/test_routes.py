"""Which route wins."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weldr.model.values import Route
from weldr.proxy.routes import RouteTable


def route(name: str, host: str | None = None, path: str | None = None, priority: int = 0) -> Route:
    return Route(service=name, host=host, path=path, priority=priority)


def one(*routes: Route) -> RouteTable:
    """A table in which each route is named like its service."""
    return RouteTable().changed([], [(each.service, each) for each in routes])


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
        ("/cart", "//cart", False),
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
    found = one(route("s", path=path)).find(b"h", target.encode())
    assert found == ("s" if matches else None)


@pytest.mark.parametrize(
    ("pattern", "host", "matches"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.example", False),
        ("a.example", "x.a.example", False),
        ("a.example.", "a.example", True),
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
    found = one(route("s", host=pattern)).find(host.encode(), b"/")
    assert found == ("s" if matches else None)


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
    ("then the name that sorts first", route("a", None, "/x"), route("b", None, "/x")),
]


@pytest.mark.parametrize(("why", "winner", "loser"), ORDER, ids=[case[0] for case in ORDER])
def test_of_two_routes_that_match_the_right_one_wins(why: str, winner: Route, loser: Route) -> None:
    for routes in ((winner, loser), (loser, winner)):
        assert one(*routes).find(b"a.b.example", b"/x/y") == winner.service


def test_no_route_takes_what_none_matches() -> None:
    assert RouteTable().find(b"h", b"/") is None
    assert one(route("s", host="other")).find(b"h", b"/") is None


hosts = st.sampled_from([None, "a.b.c", "b.c", "*.b.c", "*.c", "x"])
paths = st.sampled_from([None, "/", "/a", "/a/b", "/a/b/c", "/ab"])
all_routes = st.dictionaries(
    st.sampled_from("pqrstuvw"),
    st.builds(Route, service=st.sampled_from("123"), host=hosts, path=paths, priority=st.integers(0, 2)),
    max_size=8,
)


def expected(routes: dict[str, Route], host: str, path: str) -> str | None:
    """The design's order, written down naively."""

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
    return routes[names[0]].service if names else None


requests = st.tuples(
    st.sampled_from(["a.b.c", "b.c", "x", "y"]), st.sampled_from(["/", "/a", "/a/b/c/d", "/ab/c"])
)


@given(all_routes, all_routes, requests)
def test_lookup_and_change_agree_with_the_order_of_the_design(
    before: dict[str, Route], after: dict[str, Route], request: tuple[str, str]
) -> None:
    host, path = request
    old = RouteTable().changed([], before.items())
    new = old.changed(before.items(), after.items())
    assert old.find(host.encode(), path.encode()) == expected(before, host, path)
    assert new.find(host.encode(), path.encode()) == expected(after, host, path)


def test_lookup_and_change_are_quick_among_ten_thousand_routes() -> None:
    routes = {f"r{i}": route(f"s{i}", f"h{i % 1000}.example", f"/p{i}") for i in range(10_000)}
    full = RouteTable().changed([], routes.items())
    before_s = time.process_time()
    for i in range(1000):
        assert full.find(b"h%d.example" % i, b"/p%d/x" % i) == f"s{i}"
    assert time.process_time() - before_s < 0.2
    before_s = time.process_time()
    full.changed([("r5", routes["r5"])], [("r5", route("new", "h5.example", "/p5"))])
    assert time.process_time() - before_s < 0.05


def test_a_path_of_many_segments_costs_no_more_than_the_routes_are_deep() -> None:
    deep = one(route("s", path="/a/b"))
    target = b"/a" * 4000
    before_s = time.process_time()
    for _ in range(1000):
        deep.find(b"h", target)
    assert time.process_time() - before_s < 0.2
