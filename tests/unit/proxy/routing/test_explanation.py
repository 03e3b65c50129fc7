"""Why a route takes a request, and the others do not."""

from __future__ import annotations

from tests.unit.proxy.routing.asking import head, table
from weldr.model.routes import Route
from weldr.proxy.routing.explanation import explain


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
    found = explain(table(routes), head("/a/b"), "192.0.2.1")
    assert found[0].name == "same"
    assert {(each.name, each.reason) for each in found[1:]} == {
        ("winner", "same comes first by its name"),
        ("fewer", "same has more conditions"),
        ("glob", "same names the path more exactly"),
        ("any-host", "same names the host more exactly"),
        ("low", "it has priority -1, and same has 0"),
        ("other-host", "the host is not x"),
        ("other-path", "the path is not matched by /z.*"),
        ("other-method", "it asks for method PUT"),
    }
    assert [each.wins for each in found] == [True] + [False] * 8


def test_without_a_match_there_is_no_winner() -> None:
    found = explain(table({"a": Route(service="s", host="x")}), head(), "")
    assert found == [("a", False, "the host is not x")]
