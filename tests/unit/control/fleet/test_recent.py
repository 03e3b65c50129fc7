"""What an instance remembers of the last two minutes."""

from __future__ import annotations

from weldr.control.fleet.recent import Recent
from weldr.control.fleet.samples import KEPT_SLOTS, MOST_SERVICES, RECENT_SLOTS
from weldr.model.frames import Tallies
from weldr.model.tally import Tally, kind_of


def counted(service: str, backend: str, *kinds: tuple[int, int]) -> Tallies:
    """Tallies of requests with a status and a count each."""
    counts = {kind_of(0, status, 40): count for status, count in kinds}
    return Tallies([Tally(service, backend, counts)])


def test_errors_are_those_of_5xx_and_neither_404_nor_a_client_that_went() -> None:
    recent = Recent()
    recent.add(counted("shop", "b1", (200, 10), (404, 5), (503, 2), (0, 1)))
    recent.close_slot()
    sample = recent.sample([])
    assert (sample.services["shop"].requests, sample.services["shop"].errors) == (18, 2)
    assert sample.services["shop"].latency == {40: 18}
    load = sample.backends["shop"]["b1"]
    assert (load.requests, load.errors) == (18, 2)


def test_requests_without_a_backend_count_for_their_service() -> None:
    recent = Recent()
    recent.add(counted("shop", "", (503, 3)))
    recent.close_slot()
    sample = recent.sample([])
    assert sample.services["shop"].errors == 3
    assert sample.backends == {}


def test_what_is_recent_passes() -> None:
    recent = Recent()
    recent.add(counted("shop", "b1", (200, 1)))
    for _ in range(RECENT_SLOTS):
        recent.close_slot()
        assert recent.sample([]).recent["shop"].requests == 1
    recent.close_slot()
    assert recent.sample([]).recent == {}
    assert recent.sample([]).backends == {}


def test_it_is_bounded_and_says_what_it_leaves_out() -> None:
    recent = Recent()
    for number in range(MOST_SERVICES + 7):
        recent.add(counted(f"s{number}", "", (200, 1)))
    recent.close_slot()
    sample = recent.sample([])
    assert len(sample.services) == MOST_SERVICES
    assert sample.left_out == 7
    for _ in range(2 * KEPT_SLOTS):
        recent.close_slot()
    assert len(recent.samples) == KEPT_SLOTS
    assert recent.sample([]).left_out == 0
