"""What the workers count is summed, and forgotten with the backend that it belongs to."""

from __future__ import annotations

from weldr.control.statistics import Statistics
from weldr.model.frames import Tallies
from weldr.model.incidents import Incidents
from weldr.model.latency import MOST_BUCKETS
from weldr.model.tally import BY_ROUTE, Tally
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, Route

BACKEND = Backend(host="a", port=1)
TRAFFIC = Traffic(
    services={"shop": ServiceTraffic(backends={"b1": BACKEND})}, routes={"buy": Route(service="planned")}
)


def tallies(*ways: tuple[str, str]) -> Tallies:
    return Tallies([Tally(service, backend, {1: 1}) for service, backend in ways])


def test_all_workers_counts_are_added() -> None:
    statistics = Statistics()
    statistics.add(Tallies([Tally("shop", "b1", {1: 1}, 1, 2)], 3))
    statistics.add(Tallies([Tally("shop", "b1", {1: 1, 2: 5}, 1, 2)], 4))
    summed = Tally("shop", "b1", {1: 2, 2: 5}, 2, 4, backend_latencies={1: 2, 2: 5})
    assert statistics.tallies == {("shop", "b1"): summed}
    assert statistics.access_lines_dropped == 7


def test_what_is_gone_is_forgotten_also_if_a_worker_counts_it_once_more() -> None:
    statistics = Statistics()
    kept = {("", ""), ("default", ""), ("planned", ""), ("shop", ""), ("shop", "b1")}
    statistics.add(tallies(*kept, ("shop", "b2"), ("old", "b1"), ("old", "")))
    statistics.forget_absent(TRAFFIC)
    assert set(statistics.tallies) == kept
    statistics.add(tallies(("shop", "b2")))
    statistics.forget_absent(TRAFFIC)
    assert set(statistics.tallies) == kept


def test_sums_of_a_service_do_not_shrink_when_a_backend_goes() -> None:
    statistics = Statistics()
    statistics.add(Tallies([Tally("shop", "b1", {1: 1}), Tally("shop", "gone", {1: 1})]))
    statistics.forget_absent(TRAFFIC)
    assert set(statistics.tallies) == {("shop", "b1")}
    assert statistics.sums.services["shop"].latencies == {1: 2}


def test_requests_are_summed_by_route_until_it_goes() -> None:
    statistics = Statistics()
    counts = {MOST_BUCKETS + 3: 1, MOST_BUCKETS + 4 + BY_ROUTE: 2, MOST_BUCKETS + 5 + 2 * BY_ROUTE: 4}
    statistics.add(Tallies([Tally("shop", "b1", counts, errors={"dns_error": 1})], routes=["gone", "buy"]))
    (sums,) = statistics.sums.services.values()
    assert sums.rows == {("", 1): 1, ("gone", 1): 2, ("buy", 1): 4}
    assert sums.errors == {"dns_error": 1}
    statistics.forget_absent(TRAFFIC)
    assert sums.rows == {("", 1): 1, ("buy", 1): 4}


def test_what_befell_requests_is_added_and_forgotten_with_the_service() -> None:
    statistics = Statistics()
    for service in ("shop", "planned", "old", ""):
        for _ in range(2):
            statistics.add(Tallies([], incidents=[Incidents(service=service, retries=2, shed=1)]))
    statistics.forget_absent(TRAFFIC)
    assert statistics.incidents == {
        service: Incidents(service=service, retries=4, shed=2) for service in ("shop", "planned", "")
    }
