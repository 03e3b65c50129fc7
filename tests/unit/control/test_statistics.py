"""What the workers count is summed, and forgotten with the backend that it belongs to."""

from __future__ import annotations

from weldr.control.statistics import Statistics
from weldr.model.frames import Tallies
from weldr.model.tally import Tally
from weldr.model.traffic import ServiceTraffic, Traffic
from weldr.model.values import Backend, Route

BACKEND = Backend(host="a", port=1)
TRAFFIC = Traffic(
    services={"shop": ServiceTraffic(backends={"b1": BACKEND})}, routes={"r": Route(service="planned")}
)


def tallies(*ways: tuple[str, str]) -> Tallies:
    return Tallies([Tally(service, backend, {1: 1}) for service, backend in ways])


def test_all_workers_counts_are_added() -> None:
    statistics = Statistics()
    statistics.add(Tallies([Tally("shop", "b1", {1: 1}, 1, 2)], 3))
    statistics.add(Tallies([Tally("shop", "b1", {1: 1, 2: 5}, 1, 2)], 4))
    assert statistics.tallies == {("shop", "b1"): Tally("shop", "b1", {1: 2, 2: 5}, 2, 4)}
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
