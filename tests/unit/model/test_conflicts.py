"""What is wrong with routes beside others: found whatever changes, and looked for only where something did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.test_catalog import History, backend_key, keys
from weldr.model.catalog import Catalog
from weldr.model.conflicts import Conflicts
from weldr.model.keys import Kind
from weldr.model.routes import Mirror, Route
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend

BACKEND = Backend(host="10.0.0.1", port=80)


def traffic(routes: dict[str, Route], *services: str) -> Traffic:
    return Traffic({name: ServiceTraffic(backends={"b": BACKEND}) for name in services}, routes)


def judged(routes: dict[str, Route], *services: str) -> dict[str, tuple[str, str]]:
    after = traffic(routes, *services)
    return dict(Conflicts().changed(Traffic(), after, routes, services).by_route)


def test_a_route_to_a_service_without_backends_says_so() -> None:
    reason = "the service s has no backend: its requests get a 503"
    assert judged({"r": Route(service="s")}) == {"r": ("$.service", reason)}
    split = Route(services={"t": 1, "s": 1, "never": 0})
    assert judged({"r": split}, "t") == {"r": ("$.services", reason)}
    assert judged({"r": split}, "s", "t") == {}
    assert judged({"r": Route(service="s", mirror=Mirror(service="m"))}, "s") == {
        "r": ("$.mirror.service", "the service m has no backend: nothing is mirrored")
    }


any_route = st.builds(
    lambda service, path, mirror: Route(
        service=service, path=path, mirror=None if mirror is None else Mirror(service=mirror)
    ),
    st.sampled_from("stu"),
    st.sampled_from([None, "/", "/x"]),
    st.sampled_from([None, "s", "t", "u"]),
)
any_traffic = st.builds(
    lambda routes, services: traffic(routes, *services),
    st.dictionaries(st.sampled_from("abcd"), any_route),
    st.sets(st.sampled_from("stu")),
)


@given(st.lists(any_traffic, max_size=6))
def test_step_by_step_the_conflicts_are_those_of_a_fresh_look(steps: list[Traffic]) -> None:
    conflicts, now = Conflicts(), Traffic()
    for after in steps:
        routes = {
            name
            for name in now.routes.keys() | after.routes.keys()
            if now.routes.get(name) != after.routes.get(name)
        }
        conflicts = conflicts.changed(now, after, routes, now.services.keys() | after.services.keys())
        fresh = Conflicts().changed(Traffic(), after, after.routes, after.services)
        assert conflicts.by_route == fresh.by_route
        now = after


def test_the_catalog_shows_them_among_its_problems_for_as_long_as_they_last() -> None:
    history = History()
    route_key = keys.key(Kind.ROUTE, "r")
    catalog = Catalog(keys).fold([history.transaction({route_key: b'{"service": "s"}'})])
    [problem] = catalog.problems.values()
    assert str(problem) == (
        "/weldr/routes/r at revision 1, $.service: the service s has no backend: its requests get a 503"
    )
    assert not catalog.faults
    catalog = catalog.fold([history.transaction({backend_key("b", "s"): b"10.0.0.1:80"})])
    assert not catalog.problems
    catalog = catalog.fold([history.transaction({backend_key("b", "s"): None})])
    assert list(catalog.problems) == [route_key]
    # What cannot be understood comes first: the last good value is in force meanwhile.
    catalog = catalog.fold([history.transaction({route_key: b"nonsense"})])
    assert catalog.problems[route_key].reason != problem.reason
    assert "s" in str(catalog.traffic.routes["r"].service)
    catalog = catalog.fold([history.transaction({route_key: None})])
    assert not catalog.problems
    fresh = Catalog(keys).resync(history.revision, history.held.values())
    assert fresh.problems == catalog.problems
