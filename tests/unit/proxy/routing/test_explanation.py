"""Why a route takes a request, and the others do not."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.proxy.routing.asking import found, head, table
from weldr.model.routes import Route
from weldr.proxy.routing.explanation import explain, in_order


def test_each_route_has_the_reason_that_decided_about_it() -> None:
    routes = {
        "winner": Route(service="s", host="h", path="/a", methods=["GET"]),
        "fewer": Route(service="s", host="h", path="/a"),
        "glob": Route(service="s", host="h", path_glob="/a/*"),
        "any-host": Route(service="s", path="/a/b"),
        "low": Route(service="s", host="h", path_exact="/a/b", priority=-1),
        "other-host": Route(service="s", host="x"),
        "other-path": Route(service="s", path_regex="/z.*"),
        "other-method": Route(service="s", methods=["PUT"]),
        "same": Route(service="s", host="h", path="/a", methods=["GET"]),
    }
    explained = explain(table(routes), head("/a/b"), "192.0.2.1")
    assert explained[0].name == "same"
    assert {(each.name, each.reason) for each in explained[1:]} == {
        ("winner", "same comes first by its name"),
        ("fewer", "same has more conditions"),
        ("glob", "same names the path more exactly"),
        ("any-host", "same names the host more exactly"),
        ("low", "it has priority -1, and same has 0"),
        ("other-host", "the host is not x"),
        ("other-path", "the path is not matched by /z.*"),
        ("other-method", "it asks for method PUT"),
    }
    assert [each.wins for each in explained] == [True] + [False] * 8


def test_without_a_match_there_is_no_winner() -> None:
    explained = explain(table({"a": Route(service="s", host="x")}), head(), "")
    assert explained == [("a", False, "the host is not x")]


PATHS = [
    {},
    {"path": "/a"},
    {"path": "/a/b"},
    {"path_exact": "/a/b"},
    {"path_glob": "/a/*"},
    {"path_glob": "/**"},
    {"path_regex": "/a/.*"},
]
routes = st.builds(
    lambda host, path, priority, methods: Route(
        service="s", host=host, priority=priority, methods=methods, **path
    ),
    st.sampled_from([None, "x.y.z", "*.y.z", "*.z"]),
    st.sampled_from(PATHS),
    st.integers(0, 1),
    st.sampled_from([[], ["GET"]]),
)


@example({"a": Route(service="s", path_glob="/**"), "b": Route(service="s", path_glob="/a/*")}, "x.y.z", "/a/b")
@given(
    st.dictionaries(st.sampled_from("pqrstuvwxy"), routes, max_size=10),
    st.sampled_from(["x.y.z", "w.y.z", "z"]),
    st.sampled_from(["/", "/a", "/a/b", "/a/b/c"]),
)
def test_of_all_routes_that_take_a_request_the_first_in_order_gets_it(
    routes: dict[str, Route], host: str, target: str
) -> None:
    asked = head(target, host)
    taking = [name for name in in_order(table(routes)) if found(table({name: routes[name]}), asked) is not None]
    assert found(table(routes), asked) == (taking[0] if taking else None)
    assert sorted(in_order(table(routes))) == sorted(routes)
