"""Of routes that cannot all mean what they say, everybody refuses the same, however the keys came."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model.test_catalog import History, backend_key, history_of, keys
from weldr.model.catalog import Catalog
from weldr.model.keys import Kind
from weldr.model.route_claims import RouteClaims, Written
from weldr.model.routes import Match, Mirror, Route


def key(name: str) -> bytes:
    return keys.key(Kind.ROUTE, name)


def value(service: str = "s", path: str = "/", mirror: str | None = None) -> bytes:
    found: dict[str, object] = {"service": service, "path": path}
    return json.dumps(found | ({"mirror": {"service": mirror}} if mirror is not None else {})).encode()


def paths(catalog: Catalog) -> dict[str, str | None]:
    return {name: route.path for name, route in catalog.traffic.routes.items()}


def refused(catalog: Catalog) -> set[str]:
    return set(catalog.claims.refused)


def fresh(history: History) -> Catalog:
    return Catalog(keys).resync(history.revision, history.held.values())


def test_of_routes_that_ask_for_the_same_the_first_written_is_in_force() -> None:
    claims = RouteClaims()
    written = {
        "c": Route(service="s", host="h", path="/x/", headers={"X-A": "1"}, methods=["GET", "PUT"]),
        "b": Route(service="t", host="h", path="/x", headers={"x-a": Match(exact="1")}, methods=["PUT", "GET"]),
        "a": Route(service="s", host="h", path="/x", headers={"X-A": "2"}, methods=["GET", "PUT"]),
        "d": Route(service="s", host="h", path="/x", headers={"X-A": "1"}, methods=["GET", "PUT"], priority=1),
    }
    claims.settle({name: Written(revision, route) for revision, (name, route) in enumerate(written.items())})
    [(name, (place, reason))] = claims.refused.items()
    assert (name, place) == ("b", "$")
    assert reason == "it asks for the same as the route c, written before it: it is refused"
    claims.settle({"c": None}, ["c"])
    assert not claims.refused
    assert claims.accepted("b") is written["b"]
    at_one_instant = RouteClaims()
    at_one_instant.settle({name: Written(7, route) for name, route in written.items()})
    assert at_one_instant.refused.keys() == {"c"}


def test_the_route_whose_mirror_closes_a_circle_is_refused() -> None:
    claims = RouteClaims()
    written = {
        "a": Route(service="a", path="/a", mirror=Mirror(service="b")),
        "b": Route(services={"b": 1, "x": 1, "a": 0}, path="/b", mirror=Mirror(service="c")),
        "c": Route(service="c", path="/c", mirror=Mirror(service="a")),
        "d": Route(service="d", path="/d", mirror=Mirror(service="a")),
        "self": Route(service="e", path="/e", mirror=Mirror(service="e")),
    }
    claims.settle({name: Written(revision, route) for revision, (name, route) in enumerate(written.items())})
    assert claims.refused == {
        "c": ("$.mirror.service", "mirrors would go in a circle, c → a → b → c: it is refused"),
        "self": ("$.mirror.service", "mirrors would go in a circle, e → e: it is refused"),
    }
    claims.settle({"b": None}, ["b"])
    assert claims.refused.keys() == {"self"}


def test_who_is_refused_for_its_mirror_takes_nothing_from_who_asks_for_the_same() -> None:
    history = History()
    catalog = Catalog(keys).fold(
        [
            history.transaction({key("first"): value("a", "/a", "b")}),
            history.transaction({key("circle"): value("b", "/b", "a")}),
            history.transaction({key("same"): value("c", "/b")}),
        ]
    )
    assert refused(catalog) == {"circle"}
    assert paths(catalog) == {"first": "/a", "same": "/b"}
    catalog = catalog.fold([history.transaction({key("first"): None})])
    assert refused(catalog) == {"same"}
    assert paths(catalog) == paths(fresh(history)) == {"circle": "/b"}


def test_a_refused_value_leaves_the_last_good_one_in_force_and_says_so() -> None:
    history = History()
    catalog = Catalog(keys).fold(
        [
            history.transaction({backend_key("b", service): b"10.0.0.1:80" for service in "stuo"}),
            history.transaction({key("old"): value(path="/x")}),
            history.transaction({key("new"): value(path="/y")}),
        ]
    )
    assert refused(catalog) == set()
    for bad in (value("t", "/x"), value("u", "/x"), b"nonsense", value("t", "/x")):
        catalog = catalog.fold([history.transaction({key("new"): bad})])
        assert paths(catalog) == {"old": "/x", "new": "/y"}
        assert list(catalog.problems) == [key("new")]
    assert str(catalog.problems[key("new")]).startswith(
        "/weldr/routes/new at revision 7, $: it asks for the same as the route old, written before it"
    )
    # The last good value gives way to what a key says now, and comes back when that goes.
    catalog = catalog.fold([history.transaction({key("other"): value("o", "/y")})])
    assert paths(catalog) == {"old": "/x", "other": "/y"}
    assert refused(catalog) == {"new"}
    catalog = catalog.fold([history.transaction({key("other"): None})])
    assert paths(catalog) == {"old": "/x", "new": "/y"}
    catalog = catalog.fold([history.transaction({key("old"): None})])
    assert paths(catalog) == {"new": "/x"}
    assert catalog.traffic.routes["new"].service == "t"
    assert not catalog.problems
    # Then the one before is forgotten, and in nobody's way.
    for each in (value("o", "/y"), value("o", "/x")):
        catalog = catalog.fold([history.transaction({key("other"): each})])
    assert paths(catalog) == {"new": "/x", "other": "/y"}


def test_a_key_that_is_made_anew_has_no_last_good_value() -> None:
    history = History()
    catalog = Catalog(keys)
    for changes in ({key("old"): value(path="/x"), key("new"): value(path="/y")}, {key("new"): None}):
        catalog = catalog.fold([history.transaction(changes)])
    again = history.transaction({key("new"): value(path="/x")})
    assert paths(catalog.fold([again])) == paths(fresh(history)) == {"old": "/x"}


def test_who_changes_a_route_into_another_harms_only_that() -> None:
    history = History()
    catalog = Catalog(keys).fold(
        [
            history.transaction({key("a"): value("a", "/a")}),
            history.transaction({key("b"): value("b", "/b")}),
            history.transaction({key("a"): value("a", "/b")}),
        ]
    )
    assert refused(catalog) == {"a"}
    assert paths(catalog) == {"a": "/a", "b": "/b"}
    assert paths(fresh(history)) == {"b": "/b"}


any_value = (
    st.none()
    | st.just(b"nonsense")
    | st.builds(
        value,
        st.sampled_from("stu"),
        st.sampled_from(["/", "/x", "/x/"]),
        st.sampled_from([None, "s", "t", "u"]),
    )
)
any_history = st.lists(
    st.dictionaries(st.sampled_from("abcd").map(key), any_value, min_size=1, max_size=3), max_size=10
)


@given(any_history, st.data())
def test_who_is_refused_does_not_depend_on_how_the_keys_came(
    transactions: list[dict[bytes, bytes | None]], data: st.DataObject
) -> None:
    history = history_of(transactions)
    rest = history.revisions
    folded = Catalog(keys)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        folded, rest = folded.fold(rest[:size]), rest[size:]
    stepwise = Catalog(keys)
    for revision in history.revisions:
        stepwise = stepwise.fold([revision])
    assert folded == stepwise
    read = Catalog(keys).resync(history.revision, data.draw(st.permutations(list(history.held.values()))))
    assert read.claims.refused == folded.claims.refused
    own = {name for name in read.traffic.routes if read.claims.accepted(name) is not None}
    assert own == read.traffic.routes.keys()
    for name, route in folded.traffic.routes.items():
        if name in own:
            assert route == read.traffic.routes[name]
        else:
            # A last good value, of a key that has nothing else.
            assert key(name) in folded.problems
    assert own <= folded.traffic.routes.keys()
    # Who saw all of it, and then had to read all anew, is no other.
    assert folded.resync(history.revision, history.held.values()).traffic == folded.traffic


@settings(max_examples=50)
@given(any_history)
def test_what_is_in_force_never_clashes(transactions: list[dict[bytes, bytes | None]]) -> None:
    catalog = Catalog(keys)
    for revision in history_of(transactions).revisions:
        catalog = catalog.fold([revision])
        routes = catalog.traffic.routes.values()
        assert len({(route.path or "").rstrip("/") for route in routes}) == len(routes)
        targets: dict[str, set[str]] = {}
        for route in routes:
            if route.mirror is not None and route.service is not None:
                targets.setdefault(route.service, set()).add(route.mirror.service)
        while ends := {name for names in targets.values() for name in names} - targets.keys():
            targets = {name: names - ends for name, names in targets.items() if names - ends}
        assert not targets


@settings(max_examples=50)
@given(any_history)
def test_only_what_clashes_is_refused(transactions: list[dict[bytes, bytes | None]]) -> None:
    """A refused route that is taken beside those in force would clash with one of them."""
    claims = fresh(history_of(transactions)).claims
    accepted = {name: route for name in "abcd" if (route := claims.accepted(name)) is not None}
    for name in claims.refused:
        route = claims._claims[name].route
        alone = RouteClaims()
        alone.settle({each: Written(1, good) for each, good in accepted.items()} | {name: Written(2, route)})
        assert alone.refused.keys() == {name}
